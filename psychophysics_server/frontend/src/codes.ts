/** What a person takes along at the end: a code, the way back to the recruiter, and the token that erases their answers. */

import { button, element } from "./dom";
import type { Release } from "./wire";
import { fill, words } from "./words";

/** A code with a button that copies it. */
export function codeBox(code: string, id = "code"): HTMLElement {
  const copy = button(words.code.copy, id === "code" ? "primary" : "quiet", () => {
    const select = (): void => window.getSelection()?.selectAllChildren(text);
    const copied = navigator.clipboard ? navigator.clipboard.writeText(code) : Promise.reject(new Error("no clipboard"));
    copied.then(() => (copy.textContent = words.code.copied)).catch(select);
  });
  const text = element("code", { class: "code", id }, code);
  return element("div", { class: "codebox" }, text, copy);
}

/** A link that saves a text as a file. */
export function download(name: string, text: string, type: string, label: string): HTMLAnchorElement {
  const blob = new Blob([text], { type });
  return element("a", { class: "button quiet", href: URL.createObjectURL(blob), download: name }, label);
}

/** The way back to the recruiter: an address, a form, or none. */
export function onward({ url, form }: Pick<Release, "url" | "form">): HTMLElement | null {
  if (form && /^https:/.test(form.action)) {
    const fields = Object.entries(form.fields).map(([name, value]) => element("input", { type: "hidden", name, value }));
    const go = element("button", { class: "button primary", type: "submit" }, words.code.onward);
    const whole = element("form", { method: "post", action: form.action, class: "actions" }, ...fields, go);
    whole.addEventListener("submit", () => window.setTimeout(() => (go.disabled = true)));
    return whole;
  }
  if (!url || !/^https?:/.test(url)) return null;
  return element("div", { class: "actions" }, element("a", { class: "button primary", href: url, rel: "noreferrer" }, words.code.onward));
}

/** One sentence, the token, and a file with both codes; nothing without a token. */
export function deletion(release: Release, study: string, contact: string): HTMLElement[] {
  const { code, deletion_token: token } = release;
  if (!token) return [];
  const address = `${location.origin}/erase`;
  const said = fill(words.deletion.file, { study, code, address, token, contact });
  const section = element("section", { class: "keep" });
  section.append(element("p", {}, fill(words.deletion.body, { address })), codeBox(token, "deletion"));
  section.append(download(`${study}-codes.txt`, said, "text/plain", words.deletion.save));
  return [section];
}
