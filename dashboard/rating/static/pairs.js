import { at, clock, firstState, onKeys, pause, send, sendKept, showAnswer, showDone, showProgress, showPrompt, toast, toggleRaw, tooSoon, words } from "./common.js";
import { markDifferences } from "./differences.js";

const KEYS = { 1: "left", arrowleft: "left", 2: "right", arrowright: "right", 3: "tie", 4: "both_bad" };

let state;
let busy = false;
let marked = false;
let unseen = new Set();

/** On a phone the second answer lies below the first: a vote needs that both were on screen, which
 * means their first lines, above the bar with the buttons. */
function look() {
  for (const side of unseen) {
    const { top, bottom } = at(side).getBoundingClientRect();
    if (top < innerHeight * 0.78 && bottom > 0) unseen.delete(side);
  }
}
addEventListener("scroll", look, { passive: true });
addEventListener("resize", look);

function showAnswers() {
  showPrompt(state.prompt);
  showAnswer("left", state);
  showAnswer("right", state);
  if (marked) {
    // In the words as they were written.
    for (const side of ["left", "right"]) at(side).textContent = state[side];
    markDifferences(at("left"), at("right"));
  }
  at("differences").setAttribute("aria-pressed", String(marked));
}

function show(next) {
  state = next;
  showProgress(next.progress);
  at("undo").disabled = at("comment").disabled = !next.last;
  at("comment").disabled ||= next.last.choice === "skip" || Boolean(next.last.comment);
  at("last").textContent = next.last
    ? `${words.last} ${words[next.last.choice === "skip" ? "said_skip" : next.last.choice]}`
    : "";
  hideComment();
  if (!showDone(next)) return;
  showAnswers();
  scrollTo(0, 0);
  unseen = new Set(["left", "right"]);
  look();
  for (const button of document.querySelectorAll("[data-choice]")) button.classList.remove("chosen");
  clock.restart();
}

/** One thing at a time: what is pressed while an answer is on its way means nothing. */
async function act(name, body, mark) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  mark?.classList.add("chosen");
  const next = await send(name, body);
  busy = false;
  document.body.classList.remove("busy");
  if (next) show(next);
  else mark?.classList.remove("chosen");
  return next;
}

function vote(choice) {
  if (state.done || busy) return;
  if (choice !== "skip" && tooSoon()) return toast(words.too_soon);
  if (choice !== "skip" && unseen.size) {
    at([...unseen][0]).scrollIntoView({ block: "center" });
    return toast(words.unseen);
  }
  const mark = document.querySelector(`[data-choice=${choice}]`);
  act("vote", { ticket: state.ticket, choice, dwell_ms: clock.read() }, mark);
}

async function undo() {
  if (!state.last) return;
  const next = await act("undo", { id: state.last.id });
  if (next && !next.already) toast(words.undone);
}

function openComment() {
  if (at("comment").disabled) return;
  at("say").hidden = false;
  at("words").focus();
}

function hideComment() {
  at("say").hidden = true;
  at("words").value = "";
}

at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  comment(at("words").value.trim());
});

async function comment(text) {
  const about = state.last.id;
  at("words").blur();
  hideComment();
  if (!text) return;
  // The pair on screen stays, with its ticket and the time that it has been there.
  const next = await send("comment", { id: about, text });
  if (state.last?.id === about) {
    state.last = next?.last ?? state.last;
    at("comment").disabled = Boolean(state.last.comment);
  }
  toast(words.commented);
}

for (const chip of document.querySelectorAll("#reasons button"))
  chip.addEventListener("click", () => comment(chip.textContent));

function rawOrNot() {
  toggleRaw();
  showAnswers();
}

function toggleDifferences() {
  marked = !marked;
  showAnswers();
}

for (const button of document.querySelectorAll("[data-choice]"))
  button.addEventListener("click", () => vote(button.dataset.choice));
at("skip").addEventListener("click", () => vote("skip"));
at("undo").addEventListener("click", undo);
at("undo-done").addEventListener("click", undo);
at("comment").addEventListener("click", openComment);
at("differences").addEventListener("click", toggleDifferences);
at("raw").addEventListener("click", rawOrNot);

onKeys((event, typing) => {
  if (typing) {
    if (event.key === "Escape") hideComment();
    return;
  }
  const key = event.key.toLowerCase();
  if (KEYS[key]) vote(KEYS[key]);
  else if (key === "s") vote("skip");
  else if (key === "z") undo();
  else if (key === "c") openComment();
  else if (key === "d") toggleDifferences();
  else if (key === "f") rawOrNot();
  else return;
  event.preventDefault();
});

pause(false);
show((await sendKept()) ?? firstState);
