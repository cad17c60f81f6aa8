/** The sample pictures that the site offers. */

import { openPicture } from "./picture.js";

/**
 * @param samples [{name, picture, thumbnail}] of the site
 * @param onPicture called with a function that opens the picture
 */
export function setUpSamples(samples, onPicture) {
  for (const id of ["samples", "or-sample"]) document.getElementById(id).hidden = samples.length === 0;
  for (const { name, picture, thumbnail } of samples) {
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    button.append(Object.assign(new Image(), { src: thumbnail, alt: `Sample ${name}` }));
    button.addEventListener("click", () => onPicture(() => open(name, picture)));
    const item = document.createElement("li");
    item.append(button);
    document.getElementById("sample-list").append(item);
  }
}

async function open(name, path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`the site lacks ${path} (${answer.status})`);
  return openPicture(new File([await answer.blob()], name + path.slice(path.lastIndexOf("."))));
}
