/** Watches whether the person is with us: focus, visibility, full screen. */

export type Loss = "blur" | "focus" | "hidden" | "visible" | "fullscreen_exit";

/** Tell `report` of every change with its time on the page's clock; returns a function that stops. */
export function watchConduct(report: (what: Loss, at: number) => void): () => void {
  const on = (what: Loss) => (event: Event) => report(what, event.timeStamp);
  const blur = on("blur");
  const focus = on("focus");
  const visibility = (event: Event): void => report(document.hidden ? "hidden" : "visible", event.timeStamp);
  const fullscreen = (event: Event): void => {
    if (!document.fullscreenElement) report("fullscreen_exit", event.timeStamp);
  };
  window.addEventListener("blur", blur);
  window.addEventListener("focus", focus);
  document.addEventListener("visibilitychange", visibility);
  document.addEventListener("fullscreenchange", fullscreen);
  return () => {
    window.removeEventListener("blur", blur);
    window.removeEventListener("focus", focus);
    document.removeEventListener("visibilitychange", visibility);
    document.removeEventListener("fullscreenchange", fullscreen);
  };
}
