/** The words of the interface, in the study's language: data that the server hands over (stimuli/words/), filled in here. */

import type list from "../../../stimuli/words/en.json";

export type Words = typeof list;

/** Every word; empty until the page has been given its list. */
export const words = {} as Words;

/** Speak with these words from now on. */
export function speak(list: Words): void {
  Object.assign(words, list);
}

/** Put values into a text's places: `"{done} of {count}"`. */
export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (place, name: string) => String(values[name] ?? place));
}

/** The forms of a text that depends on a number, by CLDR's plural category. */
export type Forms = { other: string } & Partial<Record<Intl.LDMLPluralRule, string>>;

/** Choose the form for `count` in the page's language and fill it in. */
export function plural(forms: Forms, count: number, values: Record<string, string | number> = {}): string {
  const form = new Intl.PluralRules(document.documentElement.lang || "en").select(count);
  return fill(forms[form] ?? forms.other, { count, ...values });
}
