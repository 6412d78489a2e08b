import { at, clock, firstState, onKeys, pause, send, sendKept, showAnswer, showDone, showProgress, showPrompt, toast, toggleRaw, tooSoon, words } from "./common.js";

let state;
let busy = false;
let active = 0;

const name = (dimension) => words[dimension] ?? dimension;

function choices(dimension, low, high) {
  if (dimension === "safety") return [[0, words.fail], [1, words.pass]];
  return Array.from({ length: high - low + 1 }, (_, n) => [low + n, String(low + n)]);
}

function row([dimension, low, high], place) {
  const field = document.createElement("fieldset");
  field.dataset.dimension = dimension;
  const legend = document.createElement("legend");
  legend.textContent = name(dimension);
  const more = document.createElement("small");
  more.textContent = words[`${dimension}_more`] ?? "";
  legend.append(more);
  const scale = document.createElement("div");
  scale.className = dimension === "stars" ? "scale stars" : "scale";
  for (const [value, text] of choices(dimension, low, high)) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = dimension;
    input.value = value;
    input.setAttribute("aria-label", text);
    const face = document.createElement("span");
    face.textContent = dimension === "stars" ? "★" : text;
    if (value === low && dimension !== "safety") face.title = words.worst;
    if (value === high && dimension !== "safety") face.title = words.best;
    label.append(input, face);
    input.addEventListener("change", () => paint(field));
    scale.append(label);
  }
  field.append(legend, scale);
  field.addEventListener("focusin", () => activate(place));
  field.addEventListener("pointerdown", () => activate(place));
  return field;
}

/** Stars up to the chosen one shine. */
function paint(field) {
  const chosen = Number(field.querySelector("input:checked")?.value ?? -1);
  for (const input of field.querySelectorAll("input"))
    input.parentElement.classList.toggle("upto", Number(input.value) <= chosen);
}

function activate(place) {
  const rows = [...at("rows").children];
  active = Math.max(0, Math.min(place, rows.length - 1));
  rows.forEach((field, n) => field.classList.toggle("active", n === active && rows.length > 1));
}

function showTexts() {
  showPrompt(state.prompt);
  showAnswer("answer", state);
}

function rawOrNot() {
  toggleRaw();
  showTexts();
}

function show(next) {
  state = next;
  showProgress(next.progress);
  at("undo").disabled = !next.last;
  const { dimensions, target } = next.progress;
  at("dimensions").replaceChildren(
    ...Object.entries(dimensions).map(([dimension, count]) => {
      const line = document.createElement("div");
      const bar = document.createElement("progress");
      bar.max = target;
      bar.value = count;
      bar.setAttribute("aria-label", name(dimension));
      const label = document.createElement("span");
      label.textContent = name(dimension);
      const figure = document.createElement("span");
      figure.textContent = `${count} / ${target}`;
      line.append(label, bar, figure);
      return line;
    }),
  );
  if (!showDone(next)) return;
  showTexts();
  at("rows").replaceChildren(...next.dimensions.map(row));
  at("words").value = "";
  activate(0);
  scrollTo(0, 0);
  clock.restart();
}

async function act(what, body) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  const next = await send(what, body);
  busy = false;
  document.body.classList.remove("busy");
  if (next) show(next);
  return next;
}

function values() {
  const found = {};
  for (const field of at("rows").children) {
    const chosen = field.querySelector("input:checked");
    if (chosen) found[field.dataset.dimension] = Number(chosen.value);
  }
  return found;
}

function submit(skip = false) {
  if (state.done || busy) return;
  const given = skip ? {} : values();
  const missing = state.dimensions.map(([d]) => d).filter((d) => !(d in given));
  if (!skip && missing.length) {
    activate(state.dimensions.findIndex(([d]) => d === missing[0]));
    return toast(words.missing + missing.map(name).join(", "));
  }
  if (!skip && tooSoon()) return toast(words.too_soon);
  act("answer", {
    ticket: state.ticket,
    values: given,
    comment: skip ? "" : at("words").value,
    dwell_ms: clock.read(),
  });
}

async function undo() {
  if (!state.last) return;
  const next = await act("undo", { id: state.last.id });
  if (next && !next.already) toast(words.undone);
}

at("grades").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
at("skip").addEventListener("click", () => submit(true));
at("undo").addEventListener("click", undo);
at("raw").addEventListener("click", rawOrNot);
at("undo-done").addEventListener("click", undo);

onKeys((event, typing) => {
  if (typing) {
    if (event.key === "Enter" && !event.shiftKey && event.target.id === "words") submit();
    else return;
    event.preventDefault();
    return;
  }
  const key = event.key.toLowerCase();
  const field = at("rows").children[active];
  const chosen = field?.querySelector(`input[value="${CSS.escape(key)}"]`);
  if (/^[0-9]$/.test(key) && chosen) {
    chosen.checked = true;
    paint(field);
    activate(active + 1);
  } else if (key === "arrowdown") activate(active + 1);
  else if (key === "arrowup") activate(active - 1);
  else if (key === "enter") submit();
  else if (key === "s") submit(true);
  else if (key === "z") undo();
  else if (key === "c") at("words").focus();
  else if (key === "f") rawOrNot();
  else return;
  event.preventDefault();
});

pause(false);
show((await sendKept()) ?? firstState);
