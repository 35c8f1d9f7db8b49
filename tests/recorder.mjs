// A host that runs nothing: it records a push and answers what the deploy protocol demands.
//
// In: the requests of any pusher. Out: `pushes`, each with its request and with what its modules
// are when Node evaluates them. Invariant: it knows nothing of the host that the tests test, so
// two pushers that agree here agree by themselves.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { KEY } from "./host.mjs";

/** Starts a recorder on a free port. */
export async function record() {
  const recorder = { key: KEY, pushes: [], requests: [] };
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", async () => {
      const bytes = Buffer.concat(chunks);
      const packed = request.headers["content-encoding"] === "br";
      const text = (packed ? brotliDecompressSync(bytes) : bytes).toString();
      recorder.requests.push(request.url);
      let status = 200;
      const answered = await answer(recorder, request.url, text && JSON.parse(text)).catch(
        (error) => {
          status = 400;
          return { code: "Recorder", message: `${request.url}: ${error.stack}` };
        },
      );
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(answered));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  recorder.url = `http://127.0.0.1:${server.address().port}`;
  recorder.stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return recorder;
}

async function answer(recorder, url, body) {
  switch (url) {
    case "/api/get_config_hashes":
      return { config: { functions: "convex/" }, moduleHashes: [], udfServerVersion: null };
    case "/api/deploy2/evaluate_schema":
      return {
        componentSchemaEvaluations: {},
        newComponentDefinitions: [],
        discardedStagedValidators: [],
      };
    case "/api/deploy2/evaluate_push":
      return { schemaChange: CHANGE };
    case "/api/deploy2/start_push": {
      const push = { request: body, ...(await evaluate(body)) };
      recorder.pushes.push(push);
      return {
        environmentVariables: {},
        externalDepsId: null,
        componentDefinitionPackages: {},
        appAuth: [],
        analysis: push.analysis,
        app: checked(push.analysis, "", ""),
        schemaChange: CHANGE,
      };
    }
    case "/api/deploy2/wait_for_schema":
      return { type: "complete" };
    case "/api/deploy2/finish_push":
      return { authDiff: { added: [], removed: [] }, definitionDiffs: {}, componentDiffs: {} };
    case "/api/deploy2/report_push_completed":
      return null;
    default:
      throw new Error("the recorder does not know this endpoint");
  }
}

const CHANGE = { allocatedComponentIds: {}, schemaIds: {}, indexDiffs: {} };

/** What the modules of a push are, by definition path: analysis, and every module's exports. */
async function evaluate({ appDefinition, componentDefinitions }) {
  const folder = mkdtempSync(join(tmpdir(), "concave-recorded-"));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const analysis = {};
  const exported = {};
  try {
    const app = { ...appDefinition, definitionPath: "", functions: appDefinition.changedModules };
    for (const [index, definition] of [...componentDefinitions, app].entries()) {
      const path = definition.definitionPath;
      const place = join(folder, String(index));
      const evaluated = await evaluateOne(place, definition, analysis);
      analysis[path] = evaluated.analysis;
      exported[path] = evaluated.exported;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { analysis, exported };
}

async function evaluateOne(folder, sent, known) {
  const { definitionPath: path, definition, schema, dependencies, functions } = sent;
  for (const dependency of dependencies) {
    const name = known[dependency]?.definition.definitionType.name;
    const child = { componentDefinitionPath: dependency, defaultName: name };
    const file = join("_componentDeps", Buffer.from(dependency).toString("base64url"));
    write(folder, file, `export default ${JSON.stringify(child)};`);
  }
  const load = async (module) =>
    import(pathToFileURL(write(folder, module.path, module.source)).href);
  for (const module of functions) write(folder, module.path, module.source);
  const exports = (await load(definition)).default.export();
  const analyzed = {};
  const exported = {};
  for (const module of functions) {
    const found = await load(module);
    if (module.path.startsWith("_deps/")) continue;
    exported[module.path] = Object.keys(found).sort();
    if (module.path === "auth.config.js") continue;
    analyzed[module.path] = analyze(found);
  }
  if (path !== "") exports.exports = exportTree(analyzed);
  const analysis = {
    definition: { ...exports, path },
    schema: schema ? JSON.parse((await load(schema)).default.export()) : null,
    functions: analyzed,
    udfConfig: {
      serverVersion: sent.udfServerVersion,
      importPhaseRngSeed: { $bytes: "AA==" },
      importPhaseUnixTimestamp: { $integer: "AAAAAAAAAAA=" },
    },
  };
  return { analysis, exported };
}

function write(folder, path, source) {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, source);
  return file;
}

const KINDS = { isQuery: "Query", isMutation: "Mutation", isAction: "Action" };

function analyze(module) {
  const functions = [];
  for (const [name, value] of Object.entries(module)) {
    const kind = Object.keys(KINDS).find((flag) => value?.[flag] === true);
    if (!kind) continue;
    functions.push({
      name,
      pos: null,
      udfType: KINDS[kind],
      visibility: { kind: value.isPublic ? "public" : "internal" },
      args: value.exportArgs(),
      returns: value.exportReturns(),
    });
  }
  return { functions, httpRoutes: null, cronSpecs: null, sourceMapped: null };
}

/** A component exports its public functions, by file. */
function exportTree(analyzed) {
  const root = { type: "branch", branch: [] };
  for (const [path, { functions }] of Object.entries(analyzed)) {
    for (const { name, visibility } of functions) {
      if (visibility.kind !== "public") continue;
      let at = root;
      for (const part of path.slice(0, -".js".length).split("/")) {
        let next = at.branch.find(([existing]) => existing === part)?.[1];
        if (!next) at.branch.push([part, (next = { type: "branch", branch: [] })]);
        at = next;
      }
      at.branch.push([name, { type: "leaf", leaf: `_reference/function/${path}:${name}` }]);
    }
  }
  return root;
}

/** The tree of instances. */
function checked(analysis, path, componentPath) {
  const children = analysis[path].definition.childComponents.map((child) => [
    child.name,
    checked(analysis, child.path, `${componentPath}${componentPath && "/"}${child.name}`),
  ]);
  return {
    definitionPath: path,
    componentPath,
    args: {},
    childComponents: Object.fromEntries(children),
    httpRoutes: { httpModuleRoutes: null, mounts: [] },
    exports: {},
  };
}
