"use strict";
// Responses by prompt: the filters select responses, and every prompt with a selected response is shown.

(() => {
  const AT_ONCE = 8;
  let shown = AT_ONCE;

  options("run", data.runs.map((run, i) => [String(i), run.label]));
  const run = control("run", () => { steps(); restart(); });
  const run_now = () => data.runs[Number(run()) || 0];
  steps();
  const [step, kind, outcome, difficult, truncated, kept, colour, text] =
    ["step", "kind", "outcome", "difficult", "truncated", "kept", "colour", "text"].map((id) => control(id, restart));
  byId("more").addEventListener("click", () => { shown += AT_ONCE; show(); });
  show();

  function steps() {
    const now = byId("step").value;
    const all = [...new Set(run_now().groups.map((group) => group.step))];
    options("step", [["", `all ${all.length} shown`], ...all.map((one) => [String(one), String(one)])]);
    if (all.map(String).includes(now)) byId("step").value = now;
  }

  function restart() {
    shown = AT_ONCE;
    show();
  }

  // As in training: accuracy of at least difficulty.solved_at.
  function right(response) {
    return response.accuracy !== null && response.accuracy >= run_now().solved_at;
  }

  function matches(response) {
    if (kind() === "replayed" ? !response.replayed.length : kind() && response.kind !== kind()) return false;
    if (outcome() && right(response) !== (outcome() === "right")) return false;
    return (!truncated() || response.truncated) && (!kept() || response.kept);
  }

  function show() {
    const wanted = text().toLowerCase();
    const here = (words) => words.toLowerCase().includes(wanted);
    const found = [];
    for (const group of run_now().groups) {
      if ((step() && group.step !== Number(step())) || (difficult() && !group.difficult)) continue;
      const responses = group.responses.filter((one) => matches(one) && (!wanted || here(group.prompt) || here(one.response)));
      if (responses.length) found.push([group, responses]);
    }
    const count = found.reduce((sum, [, responses]) => sum + responses.length, 0);
    const all = run_now().groups.length;
    byId("found").textContent = all
      ? `${count} responses to ${found.length} of ${all} prompts, from ${byId("step").length - 1} of the run's ${run_now().steps} steps.`
      : "This run saved no rollouts (run.save_rollouts), or the page was written without them (--groups 0).";
    byId("scale").hidden = !colour();
    byId("groups").replaceChildren(...found.slice(0, shown).map(([group, responses]) => card(group, responses)));
    byId("more").hidden = found.length <= shown;
  }

  function card(group, responses) {
    const box = element("article", "group");
    const chips = element("div", "chips");
    chips.append(element("span", "chip", `step ${group.step}`));
    if (group.difficult) chips.append(element("span", "chip off", "difficult"));
    if (group.answer !== null) chips.append(element("span", "chip", `answer: ${group.answer}`));
    box.append(chips, element("pre", "prompt", group.prompt));
    for (const at of group.images) {
      const uri = run_now().images[at];
      box.append(uri ? Object.assign(element("img"), { src: uri, alt: "the prompt's image", loading: "lazy" }) : element("span", "chip off", "image not found"));
    }
    const grid = element("div", "responses");
    grid.append(...responses.map(response));
    box.append(grid);
    return box;
  }

  function response(one) {
    const box = element("div", "response" + (right(one) ? " right" : ""));
    const chips = element("div", "chips");
    const chip = (words, tone) => chips.append(element("span", "chip" + (tone ? " " + tone : ""), words));
    const number = (value, digits) => (value === null || value === undefined ? "-" : value.toFixed(digits));
    chip(right(one) ? "right" : "wrong", right(one) ? "on" : "off");
    chip(`${one.kind}, T ${one.temperature}`);
    chip(`reward ${number(one.reward, 2)}`);
    for (const [part, value] of Object.entries(one.parts || {})) chip(`${part} ${number(value, 2)}`);
    chip(one.kept ? `advantage ${number(one.advantage, 2)}` : "not trained on");
    if (one.truncated) chip("truncated", "off");
    if (one.replayed.length) chip(`replayed in step ${one.replayed.join(", ")}`);
    if (one.error) chip(`grading: ${one.error}`, "off");
    chip(`${one.tokens} tokens, mean log-probability ${number(one.logprob_mean, 2)}`);
    box.append(chips, words(one));
    return box;
  }

  // token_ends count characters, some of which are two code units of a JavaScript string.
  function words(one) {
    const pre = element("pre", "text");
    if (!colour() || !one.token_ends || !one.logprobs) {
      pre.textContent = one.response;
      return pre;
    }
    const characters = Array.from(one.response);
    let begin = 0;
    one.token_ends.forEach((end, i) => {
      const logprob = one.logprobs[i];
      const token = element("span", depth(logprob), characters.slice(begin, end).join(""));
      token.title = logprob === null ? "log-probability: none" : `log-probability ${logprob.toFixed(3)}, probability ${Math.exp(logprob).toPrecision(2)}`;
      pre.append(token);
      begin = end;
    });
    return pre;
  }

  function depth(logprob) {
    if (logprob === null) return "p5";
    const surprise = -logprob; // nats; ln 100 = 4.6
    return surprise < 0.05 ? "" : surprise < 0.35 ? "p1" : surprise < 0.92 ? "p2" : surprise < 2.3 ? "p3" : surprise < 4.6 ? "p4" : "p5";
  }
})();
