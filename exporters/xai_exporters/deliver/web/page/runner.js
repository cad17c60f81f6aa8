/** Asks the worker, which runs the networks, one question at a time. */

let worker = null;

/**
 * @param question see worker.js
 * @param onLoading called with the share that is loaded, 0 to 1
 * @returns the worker's answer
 */
export function ask(question, onLoading) {
  worker ??= newWorker();
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.loading !== undefined) onLoading(data.loading);
      else if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    worker.onerror = (event) => reject(new Error(event.message || "the runtime can't be loaded"));
    worker.postMessage(question);
  });
}

/** End the worker after a failure: its memory may be spoilt. The next question starts another one. */
export function giveUp() {
  worker?.terminate();
  worker = null;
}

/** Made from a blob, a worker keeps to this page's Content-Security-Policy; one from the server would have none. */
function newWorker() {
  const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const made = new Worker(url, { type: "module" });
  for (const kind of ["message", "error"]) made.addEventListener(kind, () => URL.revokeObjectURL(url), { once: true });
  return made;
}
