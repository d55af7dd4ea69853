/** Study texts: paragraphs split by blank lines, **bold**, and nothing else; built as nodes, so no HTML can come in. */

/** Split one paragraph into plain and bold parts. */
export function boldParts(paragraph: string): { text: string; bold: boolean }[] {
  return paragraph
    .split("**")
    .map((text, i) => ({ text, bold: i % 2 === 1 }))
    .filter((part) => part.text !== "");
}

/** Split a body into its paragraphs. */
export function paragraphs(body: string): string[] {
  return body
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s*\n\s*/g, " ").trim())
    .filter((paragraph) => paragraph !== "");
}
