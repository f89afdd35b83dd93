// Says when the car has the key: every 5 seconds for two minutes, then every 30.
(() => {
  const status = document.getElementById("status");
  if (!status) return;
  const began = Date.now();
  const look = async () => {
    try {
      const answer = await fetch(status.dataset.state, { cache: "no-store" });
      const state = await answer.json();
      if (state.text) status.textContent = state.text;
      if (state.done) {
        document.getElementById("after").hidden = false;
        return;
      }
    } catch {
      // The next look may reach the server again.
    }
    setTimeout(look, Date.now() - began < 120000 ? 5000 : 30000);
  };
  setTimeout(look, 1000);
})();
