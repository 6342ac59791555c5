// What a reader needs of a page without its server: its time zone; to copy a traceback; to choose between light and dark.

const zone = document.getElementById("zone");
zone.hidden = Number(zone.dataset.offsetS) === -60 * new Date().getTimezoneOffset();

const copied = async (button) => {
  const shown = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(shown.textContent);
  } catch { // not allowed, or no secure context: the text is selected, so that a key copies it
    getSelection().selectAllChildren(shown);
    button.textContent = "Press Ctrl+C";
    return;
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2_000);
};

export const prepare = () => {
  for (const button of document.querySelectorAll("button.copy[hidden]")) button.hidden = false;
};

prepare();
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copied(button);
});

const root = document.documentElement;
const theme = document.getElementById("theme");
const isDark = () => (root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
try { root.style.colorScheme = localStorage.theme ?? ""; } catch { /* a browser may keep nothing */ }
theme.hidden = false;
theme.addEventListener("click", () => {
  root.style.colorScheme = isDark() ? "light" : "dark";
  try { localStorage.theme = root.style.colorScheme; } catch { /* as above */ }
});
