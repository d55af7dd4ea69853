/** Order and keys of the steps of confidence under two pictures. */

const HOME_ROW = "asdf";

/** The keys of each step, for the first and for the second picture, in displayed order; none for more than four steps. */
export function gradeKeys(levels: number): [string[], string[]] {
  if (levels > HOME_ROW.length) return [[], []];
  const right = levels === HOME_ROW.length ? "hjkl" : "jkl".slice(0, levels);
  return [[...HOME_ROW.slice(-levels)], [...right]];
}

/** The steps of the first and of the second picture in displayed order: outwards from the middle, or from 1 where stacked. */
export function gradeOrder(levels: number, stacked: boolean): [number[], number[]] {
  const up = Array.from({ length: levels }, (_, i) => i + 1);
  return [stacked ? up : [...up].reverse(), up];
}
