// The model server, asked through the page's own origin: TF Serving's REST contract and nothing else.

/** What could not be answered, in words. */
export class AskError extends Error {}

/** The models of the server, and the contract of requests. */
export class Models {
  static async load() {
    const settings = await answered(await fetch("settings.json"));
    return new Models(settings);
  }

  constructor(settings) {
    this.settings = settings;
    this.signatures = new Map();
  }

  /** All versions that answer: `{model, version}`, `version` null for the latest of each model. */
  async targets() {
    const found = [];
    const failures = [];
    for (const model of this.settings.models) {
      try {
        const { model_version_status: all } = await answered(await fetch(pathOf({ model })));
        const versions = all.filter((one) => one.state === "AVAILABLE").map((one) => one.version);
        if (!versions.length) continue;
        const latest = { model, version: null, number: versions[0] };
        const older = versions.slice(1).map((version) => ({ model, version, number: version }));
        for (const target of [latest, ...older]) {
          target.signatures = await this.signaturesOf(target);
          if (target.signatures.recommend) found.push(target);
        }
      } catch (error) {
        failures.push(`${model}: ${error.message}`);
      }
    }
    return { found, failures };
  }

  /** The signatures of a version by name: `{inputs: {name: {dtype, rank, standard}}, outputs: [name]}`; `standard` is the model's own default, if it has one. */
  async signaturesOf(target) {
    const answer = await answered(await fetch(`${pathOf(target)}/metadata`));
    const definitions = answer.metadata.signature_def.signature_def;
    const read = {};
    for (const [name, definition] of Object.entries(definitions)) {
      const inputs = {};
      for (const [input, tensor] of Object.entries(definition.inputs ?? {})) {
        const standard = definition.defaults?.[input]?.bool_val?.[0];
        inputs[input] = { dtype: tensor.dtype, rank: (tensor.tensor_shape?.dim ?? []).length, standard };
      }
      read[name] = { inputs, outputs: Object.keys(definition.outputs ?? {}) };
    }
    return read;
  }

  /** Every input of a signature as columns of one row: what is given, else the model's own default or that of the contract. */
  columns(target, signature, given) {
    const columns = {};
    for (const [name, { dtype, rank, standard }] of Object.entries(target.signatures[signature].inputs)) {
      const known = this.settings.inputs[name];
      const empty = standard !== undefined ? standard : known ? known.default : dtype === "DT_STRING" ? "" : dtype === "DT_BOOL" ? false : 0;
      const value = name in given ? given[name] : rank === 2 ? [] : empty;
      columns[name] = rank === 0 ? value : [value];
    }
    return columns;
  }

  /** The body of a predict request. */
  body(target, signature, given) {
    return { signature_name: signature, inputs: this.columns(target, signature, given) };
  }

  /**
   * Asks a signature for one row.
   *
   * Returns `{outputs, milliseconds}`: outputs by name, and how long the model server took.
   */
  async predict(target, signature, given, signal) {
    const response = await fetch(`${pathOf(target)}:predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(this.body(target, signature, given)),
      signal,
    });
    const timing = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
    const { outputs } = await answered(response, this.settings.refused);
    const names = target.signatures[signature].outputs;
    return {
      // A signature with one output is answered with its bare value.
      outputs: names.length === 1 ? { [names[0]]: outputs } : outputs,
      milliseconds: timing ? Number(timing[1]) : null,
    };
  }

  /** The outputs of `explain` in words, a sentence an item: the page's server has the same templates as the client. */
  async sentences(outputs, signal) {
    const response = await fetch("sentences", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ outputs, language: document.documentElement.lang }),
      signal,
    });
    return (await answered(response)).sentences;
  }
}

/** `/v1/models/NAME[/versions/N]`. */
export function pathOf({ model, version }) {
  const path = `/v1/models/${encodeURIComponent(model)}`;
  return version ? `${path}/versions/${version}` : path;
}

/** A version in words. */
export const wordsOf = ({ model, version, number }) =>
  version ? `${model}, version ${version}` : `${model} (latest, ${number})`;

async function answered(response, refused) {
  let answer;
  try {
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError(`The server's answer cannot be read (status ${response.status}).`);
  }
  if (response.ok) return answer;
  const message = String(answer?.error ?? `status ${response.status}`);
  const rule = refused ? new RegExp(refused).exec(message) : null;
  throw new AskError(rule ? `${rule[1]} ${rule[2]}.` : message);
}
