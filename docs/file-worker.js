// SPDX-License-Identifier: Apache-2.0
// A page that is opened from a folder (file://) may not start a Worker, and the search needs one. Here the
// worker's script runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const base = new URL(url, location.href);
      const scope = frame.contentWindow;
      const load = source => new Promise(resolve => {
        const script = scope.document.createElement("script");
        script.src = new URL(source, base).href;
        script.onload = resolve;
        scope.document.documentElement.append(script);
      });
      scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}));
      scope.importScripts = (...sources) => Promise.all(sources.map(load));
      this.scope = scope;
      this.ready = load(base);
    }
    postMessage(data) {
      this.ready.then(() => this.scope.dispatchEvent(new this.scope.MessageEvent("message", {data})));
    }
    terminate() {}
  };
}
