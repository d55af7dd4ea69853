/** Keeps the overview live: fetches its changing part every few seconds, and rests while the page is hidden. */

const region = document.querySelector("[data-live]");
const note = document.querySelector("[data-live-note]");

if (region && note) {
  const every = Number(region.dataset.every);
  let timer = 0;
  let failures = 0;

  const tell = (text) => {
    if (note.textContent !== text) note.textContent = text;
  };

  const again = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, every * Math.min(2 ** failures, 16));
  };

  const refresh = async () => {
    try {
      const answer = await fetch(region.dataset.live, { redirect: "manual", credentials: "same-origin" });
      if (answer.type === "opaqueredirect" || answer.status === 403) {
        tell("You are logged out; reload the page to log in again.");
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      // Whoever is on a link or scrolls a table stays where they are.
      if (!region.contains(document.activeElement)) region.replaceChildren(...fresh.body.childNodes);
      failures = 0;
      tell("Live: counted again every few seconds.");
    } catch {
      failures += 1;
      tell("The server does not answer; these numbers are old. Trying again.");
    }
    again();
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
  again();
}
