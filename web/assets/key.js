// The key of whoever sits here: for this tab, or for this browser if it is to be remembered.
// It is sent to this server's API and nowhere else.

const NAME = "ordu.key";

/** The key that is kept, or nothing. */
export const kept = () => sessionStorage.getItem(NAME) || localStorage.getItem(NAME) || "";

/** Keeps a key, or forgets all if it is empty. */
export function keep(key, always = localStorage.getItem(NAME) !== null) {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
  if (key) (always ? localStorage : sessionStorage).setItem(NAME, key);
  for (const field of document.querySelectorAll("input[data-key]")) field.value = key;
  dispatchEvent(new CustomEvent("key"));
}

for (const field of document.querySelectorAll("input[data-key]")) {
  field.value ||= kept();
  field.addEventListener("change", () => keep(field.value.trim()));
}
for (const box of document.querySelectorAll("input[data-remember]")) {
  box.checked = localStorage.getItem(NAME) !== null;
  box.addEventListener("change", () => keep(kept(), box.checked));
}
// A key that this page shows once is the one to use from now on.
const issued = document.querySelector("output.key");
if (issued) keep(issued.textContent.trim());

for (const link of document.querySelectorAll("header nav a")) {
  if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
}
document.documentElement.classList.add("scripted");
