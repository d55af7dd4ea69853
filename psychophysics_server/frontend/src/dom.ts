/** Build elements without HTML strings, so that no text of a study or a network can become markup. */

import { boldParts, paragraphs } from "./prose";

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

/** Create an element; `true` attributes are set empty, `false`, `null` and `undefined` ones are left out. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return node;
}

/** Create a button that runs `onClick`. */
export function button(label: string, kind: "primary" | "quiet" | "danger", onClick: (event: MouseEvent) => void): HTMLButtonElement {
  const node = element("button", { type: "button", class: `button ${kind}` }, label);
  node.addEventListener("click", onClick);
  return node;
}

/** Return a body's paragraphs as elements. */
export function prose(body: string): HTMLElement {
  const block = element("div", { class: "prose" });
  for (const paragraph of paragraphs(body)) {
    block.append(element("p", {}, ...boldParts(paragraph).map(({ text, bold }) => (bold ? element("strong", {}, text) : text))));
  }
  return block;
}
