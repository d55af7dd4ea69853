/** Stands in for jsPsych's list of random words, a seventh of the bundle that no trial of ours uses. */

export default function randomWords(): never {
  throw new Error("random words are left out of this bundle");
}
