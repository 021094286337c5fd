// Checks dashboards against Grafana's types: node check.cjs DASHBOARD.json…
// Prints what is wrong, and ends with 1 when anything is. NODE_PATH leads to typescript and @grafana/schema.
const fs = require('node:fs');
const path = require('node:path');
const ts = require('typescript');

const types = path.join(path.dirname(require.resolve('@grafana/schema/package.json')), 'dist/types');
const files = new Map(
  process.argv.slice(2).map((file) => {
    const json = fs.readFileSync(file, 'utf8');
    JSON.parse(json);
    const code = `import type { Board } from './dashboard';\nexport const board: Board = ${json};\n`;
    return [path.join(__dirname, `${path.basename(file)}.ts`), code];
  }),
);
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  paths: { '@grafana/schema': [path.join(types, 'index.d.ts')], '@grafana/schema/*': [path.join(types, '*')] },
};
const host = ts.createCompilerHost(options);
const { readFile, fileExists, getSourceFile } = host;
host.readFile = (name) => files.get(path.normalize(name)) ?? readFile.call(host, name);
host.fileExists = (name) => files.has(path.normalize(name)) || fileExists.call(host, name);
host.getSourceFile = (name, language, ...rest) => {
  const code = files.get(path.normalize(name));
  return code === undefined ? getSourceFile.call(host, name, language, ...rest) : ts.createSourceFile(name, code, language);
};
const program = ts.createProgram([...files.keys()], options, host);
const wrong = ts.getPreEmitDiagnostics(program);
process.stdout.write(ts.formatDiagnostics(wrong, host));
console.log(`${files.size} dashboards, ${wrong.length} faults`);
process.exit(files.size === 0 || wrong.length > 0 ? 1 : 0);
