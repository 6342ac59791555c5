// Keeps a page up to date: the server sends the parts of it that have changed, as HTML in which all text of the run is escaped.
import { prepare } from "./reader.js";
import { Idiomorph } from "./vendor/idiomorph.esm.js";

const SPEAK_MS = 10_000; // at most this often something is announced
const AGAIN_MS = 4_000;
const BUSY_MS = 400;
const SILENT_MS = 20_000; // the server sends something every 5 s

const byId = (id) => document.getElementById(id);
const view = document.body.dataset.view;
let source = null;
let waiting = {}; // parts that were sent and are not painted yet
let heardAt = new Date();

// ---- times: all are those of the server's time zone, which is named if it isn't the browser's

const offsetS = Number(byId("zone").dataset.offsetS);

const timeOf = (moment) => new Date(moment.getTime() + offsetS * 1_000).toLocaleTimeString(undefined, { timeZone: "UTC" });

// ---- updates

// What a person has opened stays open: the server doesn't know of it.
const callbacks = {
  beforeAttributeUpdated: (name, element) => !element.matches(name === "open" ? "details" : name === "hidden" ? ".copy" : "none"),
};

const paint = () => {
  const parts = waiting;
  waiting = {};
  // What a person types or was told stays; a button that has another meaning now must say so, though it has the focus.
  const ignoreActiveValue = !document.activeElement?.matches("button.verb");
  for (const [id, html] of Object.entries(parts)) {
    const shown = byId(id);
    if (shown === null) continue;
    if (shown.hidden) shown.outerHTML = html; // it was empty
    else Idiomorph.morph(shown, html, { morphStyle: "outerHTML", ignoreActiveValue, callbacks });
  }
  prepare();
  if (source?.readyState === EventSource.OPEN && address().includes("start=") !== source.url.includes("start=")) connect();
  document.dispatchEvent(new Event("painted"));
  speak();
};

const receive = (message) => {
  if (Object.keys(waiting).length === 0) requestAnimationFrame(paint);
  Object.assign(waiting, JSON.parse(message.data));
};

// A full list stays where it is when new items come: it begins with the item that was the first one.
const address = () => {
  const asked = new URLSearchParams(location.search);
  const first = byId("listing")?.dataset.from;
  if (first && !asked.has("start")) asked.set("start", first);
  return `events/${view}?${asked}`;
};

const follows = byId("follow").querySelector("input");

const connect = () => {
  source?.close();
  source = null;
  if (!follows.checked) return; // a person has paused the updates: nothing is asked for
  source = new EventSource(address());
  source.addEventListener("open", () => {
    heardAt = new Date();
    byId("offline").hidden = true;
  });
  source.addEventListener("message", (message) => {
    heardAt = new Date();
    receive(message);
  });
  source.addEventListener("error", () => lose(source));
};

// A lost connection is tried again by the browser; an answer that isn't a stream is final.
const lose = async (lost) => {
  if (document.hidden || lost !== source) return;
  const answer = await fetch(address(), { method: "HEAD" }).catch(() => null);
  if (lost !== source || lost.readyState === EventSource.OPEN) return;
  if (answer?.status === 401) {
    tellLost("The server was started again: open the address that it has printed.");
    return;
  }
  tellLost("The run itself may be fine. Trying again.");
  if (lost.readyState === EventSource.CLOSED) setTimeout(() => lost === source && connect(), AGAIN_MS);
};

const tellLost = (words) => {
  byId("seen").textContent = timeOf(heardAt);
  byId("lost").textContent = words;
  byId("offline").hidden = false;
};

// A server that hangs, or a tunnel whose other end is gone, closes no connection.
setInterval(() => {
  if (document.hidden || source?.readyState !== EventSource.OPEN || Date.now() - heardAt < SILENT_MS) return;
  tellLost("The run itself may be fine. Trying again.");
  heardAt = new Date();
  connect();
}, SILENT_MS / 4);

// Nobody sees a hidden page: it is sent nothing, and all of it once it is seen again.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connect();
  else { source?.close(); source = null; }
});

// ---- another moment, another page of a list: the same view, changed in place

const KEPT = ["state", "access", "tabs", "banner", "notes", "main", "dock", "said"];
let asked = 0; // an older answer never takes the place of a newer one

const show = async (url, keeps) => {
  const mine = ++asked;
  source?.close();
  source = null;
  const answer = await fetch(url).catch(() => null);
  if (mine !== asked) return;
  if (!answer?.ok) { connect(); return; }
  const shown = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== asked) return;
  const here = new URL(answer.url);
  if (keeps && here.pathname + here.search !== shownAddress()) history.pushState(null, "", here);
  if (keeps) shownAt = shownAddress();
  waiting = {};
  for (const id of KEPT) if (shown.getElementById(id)) waiting[id] = shown.getElementById(id).outerHTML;
  paint();
  if (keeps) connect();
  // What isn't followed, such as a preview, is asked for again until it is read.
  if (byId("main").ariaBusy && source === null) setTimeout(() => mine === asked && show(url, keeps), BUSY_MS);
};

// What is shown now, to tell a jump from a link to a place in the page.
const shownAddress = () => location.pathname + location.search;
let shownAt = shownAddress();

addEventListener("popstate", () => {
  if (shownAddress() === shownAt) return;
  if (new URL(location).pathname.endsWith(view === "now" ? "/" : `/${view}`)) show(location.href, true);
  else location.reload();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-keep]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  show(link.getAttribute("href"), true);
});

const clockOf = (s) => {
  const two = (n) => String(n).padStart(2, "0");
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return s < 10 ? `${s.toFixed(2)} s` : h ? `${h}:${two(m)}:${two(Math.floor(s % 60))}` : `${m}:${two(Math.floor(s % 60))}`;
};

const timeAddress = () => {
  const given = new URLSearchParams(new FormData(byId("dock")));
  if (isEnd) given.delete("t");
  return `${byId("dock").getAttribute("action")}?${given}`;
};

let drag = 0;
let isEnd = false; // whether a person has put the slider at its end, which is the run as it stands: a live run moves it on
let isPreview = false; // what is shown isn't followed, and isn't in the address
document.addEventListener("input", (event) => {
  if (event.target.id !== "time") return;
  byId("clock").textContent = clockOf(Number(event.target.value));
  clearTimeout(drag);
  isPreview = true;
  isEnd = Number(event.target.value) >= Number(event.target.max);
  drag = setTimeout(() => show(timeAddress(), false), 120);
});
const settle = () => {
  clearTimeout(drag);
  isPreview = false;
  show(timeAddress(), true);
};
document.addEventListener("change", (event) => {
  if (event.target.id === "time") settle();
});
// One who drags the slider back to where it was changes nothing.
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => setTimeout(() => isPreview && settle()));
document.addEventListener("submit", (event) => {
  if (event.target.id === "dock") { event.preventDefault(); show(timeAddress(), true); }
});

// ---- keys

const LINKS = { "[": "previous", "]": "next", ",": "earlier", ".": "later", l: "live" };
const help = byId("keys");
const areOn = help.querySelector("input"); // for those whose software for speech presses keys
try { areOn.checked = localStorage.keys !== "off"; } catch { /* a browser may keep nothing */ }
areOn.addEventListener("change", () => {
  try { localStorage.keys = areOn.checked ? "on" : "off"; } catch { /* as above */ }
});
byId("help").hidden = false;
byId("help").addEventListener("click", () => help.showModal());

// The focus goes to the link of the next or the previous row.
const step = (by) => {
  const links = [...document.querySelectorAll("#listing tbody td:nth-child(2) a")];
  const row = document.activeElement?.closest("#listing tbody tr");
  const here = links.findIndex((link) => row?.contains(link));
  links[here < 0 ? 0 : here + by]?.focus();
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !areOn.checked) return;
  if (event.target.matches("input:not([type=range], [type=checkbox]), textarea, select, dialog, dialog *")) return;
  const key = event.key.toLowerCase();
  if (key === "?") help.showModal();
  else if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === "x") event.target.closest("#listing tr")?.querySelector("input")?.click();
  else if (key === "/" && byId("q")) { event.preventDefault(); byId("q").focus(); }
  else if (LINKS[key] && byId(LINKS[key])?.href) byId(LINKS[key]).click();
});

// ---- announcements for screen readers

let spokenAt = -Infinity;
let spoken = byId("said").textContent;
let speaking = false;

const speak = () => {
  const said = byId("said").textContent;
  if (said === spoken || speaking) return;
  speaking = true;
  setTimeout(() => {
    speaking = false;
    spokenAt = performance.now();
    spoken = byId("said").textContent;
    byId("spoken").textContent = spoken;
  }, Math.max(spokenAt + SPEAK_MS - performance.now(), 0));
};

follows.addEventListener("change", () => {
  byId("follow").title = follows.checked ? "" : `Paused at ${timeOf(new Date())}`;
  connect();
});
follows.checked = true; // a browser remembers it over a reload
byId("follow").hidden = false;

if (!document.hidden) connect();
if (byId("access")?.dataset.control !== undefined) import("./control.js");
