/** A panel: the whole photo under one map, its title and its colour bar. */

import { colorize, drawColorBar } from "./colors.js";
import { placed } from "./heatmap.js";

const [SMALLEST, LARGEST] = [512, 1024]; // longest side of the shown photo, in pixels
const DIMMED = "rgb(0 0 0 / 60%)"; // over the part that the network does not see

/**
 * What a panel shows: {source: the picture, geometry and part: what the network sees of it, values: {data, height, width}, or
 * null: no map, targets: what the map explains, signed, table: the colours, title, ends: [text at the lowest value, text at the highest], label: for screen readers}.
 */
export class Panel {
  /** @param id of its canvas */
  constructor(id) {
    this.figure = document.createElement("figure");
    this.title = document.createElement("p");
    this.canvas = Object.assign(document.createElement("canvas"), { id });
    this.canvas.setAttribute("role", "img");
    const caption = document.createElement("figcaption");
    this.ends = [document.createElement("span"), document.createElement("span")];
    this.bar = document.createElement("canvas");
    this.bar.className = "color-bar";
    this.bar.setAttribute("aria-hidden", "true");
    caption.append(this.ends[0], this.bar, this.ends[1]);
    this.title.className = "panel-title";
    this.figure.append(this.title, this.canvas, caption);
    this.shown = null;
  }

  /** Show something; `draw` then draws it. */
  show(shown) {
    this.shown = shown;
    this.heat = null;
    this.title.textContent = shown.title;
    this.canvas.setAttribute("aria-label", shown.label);
    this.ends.forEach((end, i) => (end.textContent = shown.ends[i]));
    drawColorBar(this.bar, shown.table);
  }

  /**
   * @param opacity of the map, 0 to 1; null: the photo alone
   * @param outlines [{corners: [[x, y], ...] in pixels of the photo, thick: drawn in twice the width}]
   */
  draw(opacity, outlines) {
    const context = this.drawMap(opacity);
    for (const outline of outlines) drawOutline(context, outline, this.shown.source, this.canvas);
  }

  drawMap(opacity) {
    const { source, part } = this.shown;
    const longest = Math.max(source.height, source.width);
    const zoom = Math.min(Math.max(longest, SMALLEST), LARGEST) / longest;
    const [height, width] = [source.height, source.width].map((side) => Math.max(1, Math.round(side * zoom)));
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const context = this.canvas.getContext("2d");
    context.globalAlpha = 1;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = zoom <= 1; // the pixels of a tiny picture stay what they are
    context.imageSmoothingQuality = "high";
    context.drawImage(source.bitmap, 0, 0, width, height);
    if (opacity === null || !this.shown.values) return context;
    const seen = shownPart(part, source, height, width);
    this.heat ??= this.colored(seen, [height, width]);
    context.globalAlpha = opacity;
    context.drawImage(this.heat, seen.left, seen.top);
    context.globalAlpha = 1;
    if (part.height < source.height || part.width < source.width) drawFrame(context, seen, this.canvas);
    return context;
  }

  /** The map's colours in the size of the part that is seen; made once. */
  colored(seen, size) {
    const { values, geometry, table, signed } = this.shown;
    const rgba = colorize(placed(values, geometry, size, seen), table, signed);
    const canvas = new OffscreenCanvas(seen.width, seen.height);
    canvas.getContext("2d").putImageData(new ImageData(rgba, seen.width), 0, 0);
    return canvas;
  }
}

/** The part in shown pixels. */
function shownPart(part, source, height, width) {
  const [down, across] = [height / source.height, width / source.width];
  const [top, left] = [Math.round(part.top * down), Math.round(part.left * across)];
  const bottom = Math.min(Math.max(Math.round((part.top + part.height) * down), top + 1), height);
  const right = Math.min(Math.max(Math.round((part.left + part.width) * across), left + 1), width);
  return { top, left, height: bottom - top, width: right - left };
}

/** Dim what the network does not see, and draw a frame around what it sees, as `xai_deploy/pictures/mixing.py`. */
function drawFrame(context, { top, left, height, width }, canvas) {
  const outside = (...rectangles) => {
    context.beginPath();
    for (const rectangle of rectangles) context.rect(...rectangle);
    context.fill("evenodd");
  };
  context.fillStyle = DIMMED;
  outside([0, 0, canvas.width, canvas.height], [left, top, width, height]);
  const thick = Math.max(1, Math.round(Math.max(canvas.height, canvas.width) / 500));
  context.fillStyle = "#ffffff";
  outside([left - thick, top - thick, width + 2 * thick, height + 2 * thick], [left, top, width, height]);
}

/** An outline: white on black, to be seen on any picture. A single corner is a dot. */
function drawOutline(context, { corners, thick }, source, canvas) {
  const [across, down] = [canvas.width / source.width, canvas.height / source.height];
  const line = Math.max(2, Math.round(Math.max(canvas.height, canvas.width) / 250)) * (thick ? 2 : 1);
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  for (const [x, y] of [...corners.slice(0, 1), ...corners]) context.lineTo(x * across, y * down);
  context.closePath();
  for (const [color, wide] of [["#000000", 2 * line], ["#ffffff", line]]) {
    [context.strokeStyle, context.lineWidth] = [color, wide];
    context.stroke();
  }
}
