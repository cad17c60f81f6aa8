/** The camera: opens in the page, and gives one picture when asked. */

import { takePicture } from "./picture.js";

const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser's settings, or choose a file.",
  NotFoundError: "No camera was found. Choose a file instead.",
  NotReadableError: "The camera is in use by another program. Close that, or choose a file.",
};

/** @param {{onPicture: Function, onError: Function}} handlers called with each picture, and with a message if something fails */
export function setUpCamera({ onPicture, onError }) {
  const [button, viewfinder, video, shoot, stop] = ["camera", "viewfinder", "video", "shoot", "stop"].map((id) =>
    document.getElementById(id),
  );

  function show(open) {
    viewfinder.hidden = !open;
    button.setAttribute("aria-expanded", open);
  }

  function turnOff() {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }

  function close() {
    turnOff();
    show(false);
    button.focus();
  }

  let opening = false; // a second click meanwhile must not ask for a second stream
  button.addEventListener("click", async () => {
    if (opening) return;
    if (!viewfinder.hidden) return close();
    if (!navigator.mediaDevices?.getUserMedia) {
      return onError("The camera works only where the page is served over https. Choose a file instead.");
    }
    opening = true;
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await video.play();
    } catch (error) {
      turnOff();
      return onError(REASONS[error.name] ?? `The camera can't be used (${error.message}). Choose a file instead.`);
    } finally {
      opening = false;
    }
    show(true);
    shoot.focus();
  });
  shoot.addEventListener("click", async () => {
    try {
      const picture = await takePicture(video);
      close();
      onPicture(picture);
    } catch (error) {
      onError(`The camera gave no picture (${error.message}). Try again, or choose a file.`);
    }
  });
  stop.addEventListener("click", close);
  viewfinder.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}
