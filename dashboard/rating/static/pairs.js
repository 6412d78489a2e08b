import { at, clock, firstState, onKeys, pause, send, showDone, showProgress, showPrompt, toast, tooSoon, words } from "./common.js";

const KEYS = { 1: "left", 2: "right", 3: "tie", 4: "both_bad" };

let state;
let busy = false;

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
  showPrompt(next.prompt);
  at("left").textContent = next.left;
  at("right").textContent = next.right;
  scrollTo(0, 0);
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

at("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("words").value.trim();
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
});

for (const button of document.querySelectorAll("[data-choice]"))
  button.addEventListener("click", () => vote(button.dataset.choice));
at("skip").addEventListener("click", () => vote("skip"));
at("undo").addEventListener("click", undo);
at("undo-done").addEventListener("click", undo);
at("comment").addEventListener("click", openComment);

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
  else return;
  event.preventDefault();
});

pause(false);
show(firstState);
