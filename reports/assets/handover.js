"use strict";
// Hands a trace to ui.perfetto.dev when the button is pressed: open it, ask PING until it answers PONG, post the trace.
(() => {
  const button = document.getElementById("open");
  if (!button) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const status = document.getElementById("status");
  const host = new URL(data.ui).host;
  const [uneasy, hopeless] = data.patience_ms;

  const say = (text) => {
    status.textContent = text;
  };

  const chosen = () => {
    const radio = document.querySelector("input[name=trace]:checked");
    return data.traces[radio ? Number(radio.value) : 0];
  };

  const load = async (href) => {
    let answer;
    try {
      answer = await fetch(href, { cache: "no-store" });
    } catch {
      throw new Error("The trace cannot be loaded: rca open does not run any more. Start it again.");
    }
    if (!answer.ok) throw new Error("The trace cannot be loaded: " + (await answer.text()).trim());
    return answer.arrayBuffer();
  };

  button.addEventListener("click", () => {
    const trace = chosen();
    const tab = window.open(data.ui + "/" + (trace.hash ? "#!/?" + trace.hash : ""));
    if (!tab) {
      say("The browser did not let this page open a tab. Allow pop-ups for it, then press the button again.");
      return;
    }
    let buffer = null;
    let listens = false;
    let over = false;
    button.disabled = true;
    say("Waiting for " + host + " and for the trace …");

    const end = (text) => {
      if (over) return;
      over = true;
      clearInterval(asking);
      timers.forEach(clearTimeout);
      removeEventListener("message", hear);
      button.disabled = false;
      say(text);
    };
    const handOver = () => {
      if (over || !buffer || !listens) return;
      const perfetto = { buffer, title: trace.title, fileName: trace.name, keepApiOpen: true };
      tab.postMessage({ perfetto }, data.ui, [buffer]);
      end("Handed over: the trace is in the tab of " + host + ".");
    };
    const hear = (event) => {
      if (event.origin !== data.ui || event.source !== tab || event.data !== "PONG") return;
      listens = true;
      handOver();
    };
    addEventListener("message", hear);
    const asking = setInterval(() => {
      if (tab.closed) end("The tab was closed before the trace was handed over.");
      else if (!listens) tab.postMessage("PING", "*"); // says nothing, so it may reach the blank page that comes first
    }, 100);
    const timers = [
      setTimeout(() => {
        if (!listens) say("No answer from " + host + " yet. Can this browser reach it? Still waiting …");
        else if (!buffer) say("Still loading the trace …");
      }, uneasy),
      setTimeout(() => {
        if (!listens) end(host + " did not answer, so nothing was sent. Is it reachable from this browser? Else save the trace and open it where Perfetto is.");
      }, hopeless),
    ];
    load(trace.href).then(
      (bytes) => {
        buffer = bytes;
        handOver();
      },
      (error) => end(error.message),
    );
  });
})();
