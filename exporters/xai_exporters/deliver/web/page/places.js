/** Regions of dense scores: as `xai_deploy/targets/places.py` and `xai_deploy/in_regions.py`. */

import { seenPart } from "./preprocess.js";
import { axis } from "./resample.js";

const BACKGROUND = /^_*(background|bg|unlabell?ed|void)_*$/i;

/**
 * The share of each position that a box covers, [height,width] of `scores`; null if the network sees nothing of it.
 * @param box {x, y, width, height} in pixels of the picture
 */
export function boxShare(box, picture, spec, scores) {
  let [down, across] = [pixels(box.y, box.height, picture.height), pixels(box.x, box.width, picture.width)];
  if (!down.includes(1) || !across.includes(1)) {
    // no pixel's centre lies in it: the pixel in which it lies
    [down, across] = [pixel(box.y + box.height / 2, picture.height), pixel(box.x + box.width / 2, picture.width)];
  }
  const part = seenPart(picture, spec);
  const rows = cells(down.slice(part.top, part.top + part.height), scores.height);
  const columns = cells(across.slice(part.left, part.left + part.width), scores.width);
  const share = Float32Array.from(rows.flatMap((row) => columns.map((column) => row * column)));
  return share.some((value) => value > 0) ? share : null;
}

/** 1 for each pixel of an axis whose centre lies from `start` on, and before `start + length`; else 0. */
function pixels(start, length, count) {
  return Array.from({ length: count }, (_, i) => Number(start <= i + 0.5 && i + 0.5 < start + length));
}

function pixel(at, count) {
  return Array.from({ length: count }, (_, i) => Number(i === Math.floor(at)));
}

/** Values of equal cells -> of `size` equal cells: the mean of what each covers. */
function cells(values, size) {
  const own = values.length;
  return Array.from({ length: size }, (_, i) =>
    values.reduce((sum, value, j) => sum + value * Math.max(Math.min((i + 1) / size, (j + 1) / own) - Math.max(i / size, j / own), 0), 0) * size,
  );
}

/**
 * The class that the network predicts at each position, [height,width] of `explained`; -1 for none. Null: codes of one class, which
 * do not say where half is.
 * @param own {data, dims} the network's own output
 * @param explained {height, width, half: above which a single class is predicted}
 */
export function predictedAt({ data, dims }, classes, layout, explained) {
  const sizes = dims.slice(1);
  const fitting = [0, 2].filter((at) => sizes.length === 3 && sizes[at] === classes);
  const at = fitting.length === 2 ? (layout === "NHWC" ? 2 : 0) : fitting[0];
  let places = sizes.filter((size) => size !== 1);
  let chosen;
  if (classes === 1) {
    if (!(data instanceof Float32Array)) return null;
    chosen = Int32Array.from(data, (score) => (score > explained.half ? 0 : -1));
  } else if (at === undefined) {
    chosen = Int32Array.from(data, Number);
  } else {
    places = sizes.filter((_, i) => i !== at);
    const area = places[0] * places[1];
    const score = at === 0 ? (c, p) => data[c * area + p] : (c, p) => data[p * classes + c];
    chosen = Int32Array.from({ length: area }, (_, p) => {
      let most = 0;
      for (let c = 1; c < classes; c++) if (score(c, p) > score(most, p)) most = c;
      return most;
    });
  }
  const { height, width } = explained;
  if (places.length !== 2 || (places[0] === height && places[1] === width)) return chosen;
  const [rows, columns] = [axis(places[0], height, "nearest", false), axis(places[1], width, "nearest", false)];
  return Int32Array.from(rows.flatMap(({ first: y }) => columns.map(({ first: x }) => chosen[y * places[1] + x])));
}

/** The class that is predicted at the most positions; the background only if nothing else is. */
export function mostFrequent(predicted, labels) {
  const counts = labels.map(() => 0);
  for (const index of predicted) if (index >= 0) counts[index]++;
  const background = labels.findIndex((label) => BACKGROUND.test(label));
  if (background >= 0 && counts.some((count, i) => count > 0 && i !== background)) counts[background] = 0;
  return counts.indexOf(Math.max(...counts));
}
