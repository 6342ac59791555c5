// Gives commands to the run. What a dialog shows before comes from the server, as HTML in which all text of the run is escaped.

const STEP_MS = 600; // several steps of the number of workers are one command
const SLOW_MS = 1_500;
const SLOW = "Waiting for the run to answer …";
const SAID_MS = 10_000;
const WHY_MS = 30_000;
const MAX_PICKED = 1_000; // as many as a command can name

const root = document.documentElement;
const dialog = document.createElement("dialog");
dialog.id = "ask";
dialog.setAttribute("aria-labelledby", "ask-title");
const answer = document.createElement("p");
answer.id = "answer";
answer.setAttribute("role", "status");
document.body.append(dialog, answer);
root.classList.add("controls"); // shows the buttons

const waiting = new Set(); // commands that aren't answered yet
let last = Promise.resolve();
let opener = null; // what has opened the dialog: an update may have put another element in its place
let timer = 0;
let clearing = 0;

const itemsOf = (body) => JSON.parse(body).items ?? [];

// ---- commands

const post = async (path, body) => {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`control/${path}`, { method: "POST", headers, body }).catch(() => null);
  const text = await response?.text().catch(() => null) ?? null;
  if (text === null) throw new Error("The server has not answered: look whether it was done before you try again.");
  if (response.ok) return text;
  let why = text;
  try { why = JSON.parse(text).error; } catch { /* it was refused before it was read */ }
  throw new Error(why);
};

// One after the other; a second click on what isn't answered yet does nothing.
const inTurn = async (key, work) => {
  if (waiting.has(key)) return false;
  waiting.add(key);
  root.classList.add("busy");
  const slow = setTimeout(() => answer.textContent || say(SLOW, false), SLOW_MS); // its event loop may be blocked for seconds
  const turn = last.then(work);
  last = turn.catch(() => {});
  try {
    await turn;
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  } finally {
    clearTimeout(slow);
    if (answer.textContent === SLOW) answer.textContent = "";
    waiting.delete(key);
    root.classList.toggle("busy", waiting.size > 0);
  }
};

const give = (verb, body, isOfDialog) => inTurn(verb + body, async () => {
  try {
    const { said } = JSON.parse(await post(verb, body));
    if (bar() && itemsOf(body).length > 0) unpick(itemsOf(body));
    say(said, false);
  } finally {
    if (isOfDialog) dialog.close(); // what is behind it can't be announced
  }
});

const ask = ({ dataset: { verb, body } }) => inTurn(`${verb}${body}?`, async () => {
  const html = await post(`${verb}/dialog`, body);
  if (dialog.open) return;
  dialog.innerHTML = html;
  opener = { verb, body };
  dialog.showModal();
});

const say = (words, isBad) => {
  clearTimeout(clearing);
  answer.textContent = words[0].toUpperCase() + words.slice(1);
  answer.classList.toggle("bad", isBad);
  clearing = setTimeout(() => { answer.textContent = ""; }, isBad ? WHY_MS : SAID_MS);
};

// ---- workers

const setWorkers = async (input) => {
  clearTimeout(timer);
  if (!input.checkValidity()) input.value = input.defaultValue;
  if (input.value === input.defaultValue) return;
  const number = input.value;
  if (await give("workers", JSON.stringify({ number: Number(number) }), false)) input.defaultValue = number; // no update does, while it has the focus
  else input.value = input.defaultValue;
};

const step = (button) => {
  const input = button.parentElement.querySelector("input");
  if (button.dataset.step > 0) input.stepUp();
  else input.stepDown();
  clearTimeout(timer);
  timer = setTimeout(setWorkers, STEP_MS, input);
};

// ---- selected items: kept while the lists change, and other pages of them are opened in this tab

const boxes = () => [...document.querySelectorAll("#listing td input[type=checkbox]")];
const bar = () => document.querySelector("#picked[data-run]"); // not in the past, nor in other views
const placeOf = () => `aqueue-picked ${bar().dataset.run}`;
const countOf = ({ size }) => (size === 1 ? "1 item selected" : `${size.toLocaleString("en")} items selected`);
const bodyOf = (items) => JSON.stringify({ items: [...items].sort((a, b) => a - b) });
let picked = null; // known once there is a bar: the page may be opened in the past
let lastBox = null; // with Shift, all boxes up to this one are ticked

const kept = () => {
  try {
    const numbers = JSON.parse(sessionStorage.getItem(placeOf()) ?? "[]").filter((one) => Number.isSafeInteger(one) && one > 0);
    return new Set(numbers.slice(0, MAX_PICKED));
  } catch { return new Set(); } // a browser may keep nothing
};

const showPicked = () => {
  if (!bar()) return;
  picked ??= kept();
  const all = document.querySelector("#listing th input[type=checkbox]");
  for (const box of boxes()) box.checked = picked.has(Number(box.value));
  if (all) {
    all.checked = boxes().every((box) => box.checked);
    all.indeterminate = !all.checked && boxes().some((box) => box.checked);
  }
  for (const button of bar().querySelectorAll("[data-verb]")) button.dataset.body = bodyOf(picked);
  bar().querySelector("b").textContent = countOf(picked);
  bar().hidden = picked.size === 0;
};

const pick = (changed, isOn) => {
  for (const box of changed) {
    if (!isOn) picked.delete(Number(box.value));
    else if (picked.size < MAX_PICKED) picked.add(Number(box.value));
    else say(`At most ${MAX_PICKED.toLocaleString("en")} items can be selected: a filter can name any number of them.`, true);
  }
  try { sessionStorage.setItem(placeOf(), JSON.stringify([...picked])); } catch { /* they are forgotten with this page */ }
  document.getElementById("spoken").textContent = countOf(picked);
  showPicked();
};

const unpick = (items) => {
  const box = boxes().find((one) => one.checked) ?? document.querySelector("#listing .scroll");
  for (const item of items) picked.delete(item);
  if (picked.size === 0 && bar().contains(document.activeElement)) box?.focus({ preventScroll: true }); // the bar goes
  lastBox = null;
  pick([], false);
};

const tick = (box, isRange) => {
  if (box.value === "all") return pick(boxes(), box.checked);
  const [from, to] = [boxes().indexOf(lastBox), boxes().indexOf(box)].sort((a, b) => a - b);
  pick(isRange && from >= 0 ? boxes().slice(from, to + 1) : [box], box.checked);
  lastBox = box;
};

document.addEventListener("painted", showPicked);
showPicked();

// ---- what a person does

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches("#ask .close")) dialog.close();
  else if (button?.dataset.step) step(button);
  else if (button?.id === "unpick") unpick([...picked]);
  else if (event.target.matches("#listing input[type=checkbox]")) tick(event.target, event.shiftKey);
  else if (button?.dataset.asks !== undefined) ask(button);
  else if (button?.dataset.verb) give(button.dataset.verb, button.dataset.body, dialog.contains(button));
});

document.addEventListener("change", (event) => {
  if (event.target.matches("input[data-verb=workers]")) setWorkers(event.target);
});

dialog.addEventListener("submit", (event) => {
  event.preventDefault();
  const { verb, body } = event.target.dataset;
  const fields = [...new FormData(event.target)].filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]);
  give(verb, JSON.stringify({ ...JSON.parse(body), ...Object.fromEntries(fields) }), true);
});

// The browser gives the focus back to what had it, if that is still there.
dialog.addEventListener("close", () => {
  dialog.replaceChildren();
  if (document.activeElement !== document.body) return;
  const same = [...document.querySelectorAll("button.verb")].find(
    ({ dataset: { verb, body } }) => verb === opener?.verb && body === opener.body,
  );
  const box = boxes().find(({ value }) => opener && itemsOf(opener.body).includes(Number(value)));
  (same ?? box ?? document.getElementById("main")).focus({ preventScroll: true });
});
