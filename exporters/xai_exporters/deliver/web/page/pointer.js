/** Where a pointer is on a picture. */

/**
 * In pixels of the picture {width, height}; a canvas keeps its sides' ratio, at the left and in the middle of its height.
 * @returns {x, y}, inside the picture
 */
export function inPicture({ clientX, clientY }, canvas, picture) {
  const shown = canvas.getBoundingClientRect();
  const scale = Math.min(shown.width / canvas.width, shown.height / canvas.height);
  const below = (shown.height - canvas.height * scale) / 2;
  const [across, down] = [(clientX - shown.left) / scale / canvas.width, (clientY - shown.top - below) / scale / canvas.height];
  const within = (share, length) => Math.min(Math.max(share, 0), 1) * length;
  return { x: within(across, picture.width), y: within(down, picture.height) };
}
