// What the pages share: the data block, time on screen, pause, help, theme, and sending.

const data = JSON.parse(document.getElementById("data").textContent);
export const words = data.words;
export const firstState = data.state;

export const at = (id) => document.getElementById(id);

/** Time that the page was on screen and not paused, in milliseconds, since `restart`. */
export const clock = {
  kept: 0,
  since: null,
  paused: false,
  restart() {
    this.kept = 0;
    this.since = this.running() ? performance.now() : null;
  },
  running() {
    return !this.paused && !document.hidden;
  },
  change() {
    if (this.since !== null) this.kept += performance.now() - this.since;
    this.since = this.running() ? performance.now() : null;
  },
  read() {
    return this.kept + (this.since === null ? 0 : performance.now() - this.since);
  },
};
document.addEventListener("visibilitychange", () => clock.change());

export const tooSoon = () => clock.read() < data.min_dwell_ms;

let toastTimer;
export function toast(text, stays = false) {
  clearTimeout(toastTimer);
  at("toast").textContent = text;
  at("toast").classList.toggle("shown", Boolean(text));
  if (text && !stays) toastTimer = setTimeout(() => toast(""), 2600);
}

export function pause(on = !clock.paused) {
  clock.paused = on;
  clock.change();
  at("resting").hidden = !on;
  document.body.classList.toggle("paused", on);
  if (on) at("resume").focus();
}

export const reading = { raw: localStorage.getItem("raw") === "1" };

/** Shows text as text, or formatted from a tree of known tags: whatever it holds, never markup. */
export function showPrompt(messages) {
  const nodes = messages.map(({ role, text, tree }) => {
    const turn = document.createElement("div");
    turn.className = `turn ${["user", "assistant", "system"].includes(role) ? role : "user"}`;
    if (messages.length > 1) {
      const who = document.createElement("span");
      who.className = "who";
      who.textContent = words[role] ?? role;
      turn.append(who);
    }
    const said = document.createElement("div");
    said.className = "text";
    said.dir = "auto";
    fill(said, text, tree);
    turn.append(said);
    return turn;
  });
  at("prompt").replaceChildren(...nodes);
}

/** An answer; one without a visible character says so. */
export function showAnswer(place, { [place]: text, trees: { [place]: tree } }) {
  const empty = !text.trim();
  fill(at(place), empty ? words.empty : text, empty ? null : tree);
  at(place).classList.toggle("empty", empty);
}

function fill(place, text, tree) {
  const shaped = Boolean(tree) && !reading.raw;
  place.classList.toggle("formatted", shaped);
  place.replaceChildren(shaped ? build(tree) : document.createTextNode(text));
}

const HTML = new Set(
  "p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code strong em s hr br table thead tbody tr th td".split(" "),
);
const MATH = new Set(
  "math mrow mi mn mo mtext mspace mfrac msqrt mroot msup msub msubsup mover munder munderover mtable mtr mtd mstyle mpadded mphantom".split(" "),
);

/** Nodes of a tree [tag, ...nodes]. No attribute comes from it but the number of a list's first item. */
function build(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const [name, ...within] = node;
  const [tag, start] = name.split(":");
  const made = MATH.has(tag)
    ? document.createElementNS("http://www.w3.org/1998/Math/MathML", tag)
    : document.createElement(HTML.has(tag) ? tag : "span");
  if (tag === "ol" && start) made.start = Number(start);
  made.append(...within.map(build));
  return made;
}

export function toggleRaw() {
  reading.raw = !reading.raw;
  localStorage.setItem("raw", reading.raw ? "1" : "0");
  at("raw").setAttribute("aria-pressed", String(reading.raw));
}

export function showProgress({ mine, same, share, total, target }) {
  at("bar").max = target;
  at("bar").value = Math.min(total, target);
  at("mine").textContent = `${words.progress} ${mine} · ${words.together} ${total} / ${target}`;
  at("mine").title = [`≈ ${share}`, same ? words.same.replace("{n}", same) : ""].filter(Boolean).join(" · ");
}

/** The work, or the reason why there is none; false where there is none. */
export function showDone(state) {
  at("work").hidden = Boolean(state.done);
  at("done").hidden = !state.done;
  at("why").textContent = state.done ? words[`done_${state.done}`] : "";
  at("undo-done").hidden = !state.last || state.done === "closed";
  return !state.done;
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Send until it is answered. A ticket counts once, so sending again is safe: a vote survives a
 * lost connection and a server that is started anew. Returns the next state, or null where the
 * answer was refused and said so.
 */
export async function send(act, body) {
  // Kept until it is answered, so that a page that is loaded anew sends it again.
  if (body !== undefined) localStorage.setItem(kept, JSON.stringify({ act, body }));
  const found = await answered(act, body);
  if (body !== undefined) localStorage.removeItem(kept);
  return found;
}

const kept = `kept:${data.base}`;

/** Sends what an earlier page of this form could not; its answer, or null where there was none. */
export function sendKept() {
  const found = localStorage.getItem(kept);
  if (!found) return null;
  const { act, body } = JSON.parse(found);
  return send(act, body);
}

async function answered(act, body) {
  for (let pauseMs = 300; ; pauseMs = Math.min(pauseMs * 1.6, 5000)) {
    let response;
    try {
      response = await fetch(`${data.base}/${act}`, {
        method: body === undefined ? "GET" : "POST",
        headers: body === undefined ? {} : { "content-type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      toast(words.offline, true);
      await wait(pauseMs);
      continue;
    }
    const found = await response.json().catch(() => ({}));
    if (response.ok) {
      toast(found.already ? words.already : "");
      return found;
    }
    if (response.status === 403) {
      location.reload();
      return new Promise(() => {});
    }
    if (response.status === 503 || response.status === 502) {
      toast(words.not_kept, true);
      await wait(pauseMs);
      continue;
    }
    toast(words[found.why] ?? words.invalid);
    return found.why === "too_soon" ? null : send("state");
  }
}

/** Keys that every form has; `own` gets the others. Typing in a field is typing. */
export function onKeys(own) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    const typing = event.target.matches("textarea, input:not([type=radio])");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      if (clock.paused) pause(false);
    }
    if (typing || at("keys").open) return own(event, true);
    const key = event.key.toLowerCase();
    if (key === "p") pause();
    else if (event.key === "?") at("keys").showModal();
    else if (!clock.paused) return own(event, false);
    else return;
    event.preventDefault();
  });
}

at("raw").setAttribute("aria-pressed", String(reading.raw));
at("pause").addEventListener("click", () => pause());
at("resume").addEventListener("click", () => pause(false));
at("help").addEventListener("click", () => at("keys").showModal());
at("keys-close").addEventListener("click", () => at("keys").close());
at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});
