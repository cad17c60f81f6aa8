/** What is saved: the shown pictures with a caption as PNG, the raw map as .npy or JSON. */

const [MARGIN, LINE, BAR] = [16, 24, 12]; // pixels of the caption

/** Hand bytes to the browser's downloads. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a browser may ask first where to save
}

/** A file's name of texts: letters, digits and the like stay, anything else becomes one "-". */
export function fileName(...texts) {
  return texts.map((text) => text.replace(/[^\p{L}\p{N}.+]+/gu, "-").replace(/^[-.]+|-+$/g, "")).filter(Boolean).join("_");
}

/** Panels side by side as they are drawn, each with its title and colour bar, and lines of text below them all. */
export async function pictureOf(panels, lines) {
  const [first] = panels;
  const width = MARGIN + panels.length * (first.canvas.width + MARGIN);
  const below = 2 * LINE + BAR;
  const sheet = new OffscreenCanvas(width, first.canvas.height + below + (lines.length + 1) * LINE + 2 * MARGIN);
  const context = sheet.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.font = "16px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.fillStyle = "#1b1d21";
  panels.forEach(({ canvas, bar, shown }, i) => {
    const left = MARGIN + i * (canvas.width + MARGIN);
    const at = (line) => MARGIN + canvas.height + (line + 0.5) * LINE;
    context.drawImage(canvas, left, MARGIN);
    context.textAlign = "left";
    context.fillText(shown.title, left, at(0), canvas.width);
    context.drawImage(bar, left, at(1) - BAR / 2, canvas.width, BAR);
    context.fillText(shown.ends[0], left, at(2), 0.48 * canvas.width);
    context.textAlign = "right";
    context.fillText(shown.ends[1], left + canvas.width, at(2), 0.48 * canvas.width);
  });
  context.textAlign = "left";
  lines.forEach((line, i) => {
    context.fillText(line, MARGIN, sheet.height - MARGIN - (lines.length - i - 0.5) * LINE, width - 2 * MARGIN);
  });
  return sheet.convertToBlob({ type: "image/png" });
}

/** A map {data, height, width} as NumPy's format, version 1.0: little-endian float32 [height,width]. */
export function npy({ data, height, width }) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${height}, ${width}), }`;
  const padded = `${text.padEnd(64 * Math.ceil((text.length + 11) / 64) - 11)}\n`; // the data begins at a multiple of 64
  const bytes = new Uint8Array(10 + padded.length + 4 * data.length);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  bytes.set(new TextEncoder().encode(padded), 10);
  const view = new DataView(bytes.buffer, 10 + padded.length);
  data.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return bytes;
}

/** A map {data, height, width} as rows of numbers. */
export function rowsOf({ data, height, width }) {
  return Array.from({ length: height }, (_, y) => Array.from(data.subarray(y * width, (y + 1) * width)));
}
