// Validates custom resources (a JSON list on stdin) against the schemas of their own projects' definitions. These let
// unknown members pass, as the API server does, which drops them: so members are looked for in the types, too.
const fs = require("fs");

const kinds = {
  "keda.sh/v1alpha1 ScaledObject": "keda",
  "keda.sh/v1alpha1 TriggerAuthentication": "keda",
  "monitoring.coreos.com/v1 ServiceMonitor": "prometheus-operator",
};
// Maps whose keys are anybody's.
const free = new Set(["metadata", "matchLabels"]);

function unknown(value, types) {
  if (Array.isArray(value)) return value.flatMap((item) => unknown(item, types));
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, item]) => [
    ...(new RegExp(`^\\s*"?${key}"?\\??:`, "m").test(types) ? [] : [key]),
    ...(free.has(key) ? [] : unknown(item, types)),
  ]);
}

let failed = false;
for (const object of JSON.parse(fs.readFileSync(0, "utf8"))) {
  const known = kinds[`${object.apiVersion} ${object.kind}`];
  try {
    if (!known) throw new Error("no schema is known");
    const path = require.resolve(`@kubernetes-models/${known}/${object.apiVersion}/${object.kind}`);
    new (require(path)[object.kind])(object).validate();
    const members = unknown(object.spec, fs.readFileSync(path.replace(/\.js$/, ".d.ts"), "utf8"));
    if (members.length) throw new Error(`unknown: ${members.join(", ")}`);
  } catch (error) {
    failed = true;
    console.error(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0);
