/**
 * What is explained, by the kind of the network's scores: a class; a class in a region; a number, in one of its two directions; how
 * alike the picture and a reference are; or a detection.
 *
 * A subject is {index: the class, number or detection, PREDICTED, or 0 for a likeness; more(index): inputs {name, type, data, dims} of the
 * file beside the picture and `target`; sent(index): what the file gets as `target`; name(index) and amount(index, scores, shares): words for people; about: for `xai.last`
 * and saved files}.
 */

import { PREDICTED } from "./classes.js";
import { mostFrequent, predictedAt, share } from "./places.js";
import { likely } from "./prediction.js";
import { ClassError, direction } from "./question.js";
import { theReference } from "./reference.js";

/**
 * @param site the configuration
 * @param names of the classes
 * @param source the picture
 * @param index the class that the user chose
 * @param run runs the method chosen: (picture, index, more) -> {own, scores}
 * @param region the controls of the region, if the scores have positions
 * @returns a subject; null: the user has to choose something first
 * @throws {ClassError}
 */
export async function subjectOf(site, names, source, index, run, region) {
  const { kind } = site.explained;
  const plain = {
    index,
    more: () => [],
    sent: (number) => number,
    name: (number) => names[number],
    amount: (number, scores, shares) => likely(shares[number], site.apply),
    about: { kind },
  };
  if (kind === "regions") return { ...plain, ...(await inRegion(site, names, source, index, run, region)) };
  if (kind === "similarity") return theReference() && { ...plain, ...(await alike(site, run)) };
  if (kind === "numbers") return { ...plain, ...numbered(names) };
  if (kind === "boxes") return { ...plain, ...boxed(site, source, index) };
  return plain;
}

async function inRegion({ explained, names: inputs, classes, labels, input }, names, source, index, run, region) {
  const { height, width } = explained;
  const feed = (data) => [{ name: inputs.where, type: "float32", data, dims: [1, height, width] }];
  const everywhere = feed(new Float32Array(height * width).fill(1));
  if (region.kind === "all") {
    return { more: () => everywhere, name: (number) => `${names[number]} in the whole picture`, about: { kind: "regions", region: "all" } };
  }
  if (region.kind !== "predicted") {
    const { said, row } = laid(region);
    const covered = share(row, source, input, explained);
    if (!covered) throw new ClassError(`${capital(said.split(" ").slice(0, 2))} lies outside what the network sees. Draw it inside the frame.`);
    return { more: () => feed(covered), name: (number) => `${names[number]} in ${said}`, about: { kind: "regions", region: said.replace(/^the \w+ /, "") } };
  }
  source.predicted ??= predictedAt((await run(source, index, everywhere)).own, classes, input.layout, explained);
  if (!source.predicted) throw new ClassError("The network's output does not say where its class is predicted. Draw a box.");
  const chosen = index === PREDICTED ? mostFrequent(source.predicted, labels) : index;
  const there = Float32Array.from(source.predicted, (number) => Number(number === chosen));
  if (!there.includes(1)) throw new ClassError(`The network predicts “${names[chosen]}” nowhere in this picture. Draw a box, or choose another class.`);
  const name = (number) => (number === chosen ? `${names[number]} where it is predicted` : `${names[number]} where ${names[chosen]} is predicted`);
  return { index: chosen, more: () => feed(there), name, about: { kind: "regions", region: "predicted" } };
}

function laid(region) {
  try {
    return region.laid();
  } catch (error) {
    throw new ClassError(error.message);
  }
}

const capital = ([first, ...others]) => [first[0].toUpperCase() + first.slice(1), ...others].join(" ");

async function alike({ explained, names: inputs }, run) {
  const reference = theReference();
  const dims = [1, explained.length];
  const feed = (data) => [{ name: inputs.reference, type: "float32", data, dims }];
  reference.embedding ??= (await run(reference, 0, feed(new Float32Array(explained.length).fill(1)))).scores;
  const { embedding, name } = reference;
  if (!(length(embedding) > 0)) throw new ClassError(`The embedding of “${name}” is zero: it has no direction. Choose another picture.`);
  return {
    index: 0,
    more: () => feed(embedding),
    name: () => `like ${name}`,
    amount: (_, scores) => `cosine ${cosine(scores, embedding).toFixed(3)}`,
    about: { kind: "similarity", reference: name },
  };
}

function numbered(names) {
  const up = direction() === "up";
  return {
    sent: (number) => (up ? number : -2 - number), // the files' way to ask for the other direction
    name: (number) => `${names[number]} ${up ? "up" : "down"}`,
    amount: (number, scores) => `value ${scores[number].toPrecision(4)}`,
    about: { kind: "numbers", direction: direction() },
  };
}

function boxed({ names: inputs, labels }, { found }, index) {
  const detections = found.map(({ row, index: number, score, box }) => ({ row, class: number, label: labelOf(labels, number), score, box }));
  return {
    index: index === PREDICTED ? 0 : index,
    more: (number) => rowFed(inputs, found[number].row),
    sent: () => PREDICTED, // the row's own class
    about: { kind: "boxes", detections },
  };
}

/** The input that says which row of a detector is explained; PREDICTED: the best one. */
export const rowFed = (inputs, row) => [{ name: inputs.row, type: "int64", data: BigInt64Array.of(BigInt(row)), dims: [1] }];

/** What a detection's class is called. */
export const labelOf = (labels, index) => labels[index] ?? `class ${index}`;

const length = (vector) => Math.hypot(...vector);

function cosine(one, other) {
  return one.reduce((sum, value, i) => sum + value * other[i], 0) / (length(one) * length(other));
}
