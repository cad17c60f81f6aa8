/** Rows of a detector -> detections, as `xai_deploy/detections.py`. */

import { geometry } from "./preprocess.js";
import { rint } from "./resample.js";

/**
 * The detections of a picture, the best one first: [{row, index: the class, score: its probability, box: [left, top, right, bottom] in
 * pixels of the picture}].
 * @param rows [entries,R] of the network's rows, one entry of all rows after the other
 * @param explained {scores: how many a row begins with, activation, form, unit, background, labelled, objectness, suppress}
 * @param limits {score, overlap, most}
 * @param spec the network's input
 */
export function detect(rows, explained, limits, picture, spec) {
  const count = rows.length / (explained.scores + 4 + explained.labelled + explained.objectness);
  const entry = (number, row) => rows[number * count + row];
  const found = [];
  for (let row = 0; row < count; row++) {
    const { index, score } = bestOf(Array.from({ length: explained.scores }, (_, c) => entry(c, row)), explained);
    if (!(score >= Math.fround(limits.score))) continue;
    const box = corners([0, 1, 2, 3].map((side) => entry(explained.scores + side, row)), explained, spec);
    if (box.every(Number.isFinite)) found.push({ row, index: explained.labelled ? rint(entry(explained.scores + 4, row)) : index, score, box });
  }
  found.sort((one, other) => other.score - one.score); // equal ones stay in the order of their rows
  const kept = explained.suppress ? suppressed(found, limits.overlap) : found;
  return kept.slice(0, limits.most).map((one) => ({ ...one, box: onPicture(one.box, picture, spec) }));
}

/** The class of the highest probability, which is not the background. */
function bestOf(scores, { activation, background }) {
  let shares = scores;
  if (activation === "sigmoid") shares = scores.map((score) => 1 / (1 + Math.exp(-score)));
  if (activation === "softmax" || activation === "none") {
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    shares = weights.map((weight) => weight / sum);
  }
  let index = 0;
  const share = (c) => (c === background ? 0 : shares[c]);
  for (let c = 1; c < shares.length; c++) if (share(c) > share(index)) index = c;
  return { index, score: Math.fround(share(index)) };
}

/** Four coordinates -> left, top, right, bottom in pixels of the network's input. */
function corners([a, b, c, d], { form, unit }, { width, height }) {
  const box = form === "centre" ? [a - c / 2, b - d / 2, a + c / 2, b + d / 2] : [a, b, c, d];
  return unit === "fractions" ? box.map((value, i) => value * (i % 2 ? height : width)) : box;
}

/** Non-maximum suppression within each class of detections, the best one first: one that a better one overlaps more is left out. */
function suppressed(found, overlap) {
  const kept = [];
  for (const one of found) {
    if (kept.every((better) => better.index !== one.index || shared(better.box, one.box) <= overlap)) kept.push(one);
  }
  return kept;
}

/** Intersection over union. */
function shared(one, other) {
  const side = (i) => Math.max(Math.min(one[i + 2], other[i + 2]) - Math.max(one[i], other[i]), 0);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const both = side(0) * side(1);
  const union = area(one) + area(other) - both;
  return union > 0 ? both / union : 0;
}

/** A box in pixels of the network's input as pixels of the picture: the inverse of resize, crop and letterbox. */
function onPicture(box, picture, spec) {
  const { size, corner } = geometry(picture.height, picture.width, spec);
  return box.map((value, i) => (i % 2 ? ((value + corner[0]) * picture.height) / size[0] : ((value + corner[1]) * picture.width) / size[1]));
}

/** The number of the smallest detection in which a point lies; null if none does. */
export function detectionAt({ x, y }, found) {
  const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  let number = null;
  found.forEach((one, i) => {
    const [left, top, right, bottom] = one.box;
    if (x >= left && x <= right && y >= top && y <= bottom && (number === null || area(one) < area(found[number]))) number = i;
  });
  return number;
}
