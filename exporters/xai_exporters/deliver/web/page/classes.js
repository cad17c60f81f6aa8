/** Classes by name or number. */

export const PREDICTED = -1;

/** What to call each class, no two alike: the label, and its number where labels repeat. */
export function classNames(labels) {
  const times = new Map();
  for (const label of labels) times.set(label, (times.get(label) ?? 0) + 1);
  return labels.map((label, i) => (times.get(label) > 1 ? `${label} (${i})` : label));
}

/**
 * What was typed -> class: the exact name before one in another case, a number (3 or #3), a part of one name only.
 * @returns PREDICTED for nothing, null where no class, or more than one, fits.
 */
export function findClass(text, names) {
  const typed = text.trim();
  if (!typed) return PREDICTED;
  if (names.includes(typed)) return names.indexOf(typed);
  const wanted = typed.toLowerCase();
  const lower = names.map((name) => name.toLowerCase());
  const numbered = /^#?(\d+)$/.exec(wanted);
  if (numbered) return Number(numbered[1]) < names.length ? Number(numbered[1]) : null;
  for (const fits of [(name) => name === wanted, (name) => name.includes(wanted)]) {
    const fitting = lower.flatMap((name, i) => (fits(name) ? [i] : []));
    if (fitting.length) return fitting.length === 1 ? fitting[0] : null;
  }
  return null;
}

/** Scores as the page shows them: probabilities, or the raw scores where there is no telling ("raw"). */
export function likelihoods(scores, apply) {
  if (apply === "none" || apply === "raw") return scores;
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = apply === "softmax" ? Float64Array.from(scores, (s) => Math.exp(s - most)) : Float64Array.from(scores);
  const sum = weights.reduce((a, b) => a + b, 0) || 1;
  return weights.map((weight) => weight / sum);
}

/** The `count` classes of the highest scores, best first. */
export function best(scores, count) {
  return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, count);
}
