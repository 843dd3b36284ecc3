// The engine's side of a worker: requests in, answers and events out.
import { answerOf, type Engine, type EngineOptions, type Request } from './engine.js';
import { inPlace } from './local-engine.js';
import { fetched } from './fetched.js';

interface Asked { id: number; open?: EngineOptions; request?: Request; close?: true }

// The DOM's types know no worker's scope.
interface Scope { onmessage: ((message: MessageEvent<Asked>) => void) | null; postMessage(message: unknown): void; close(): void }

/**
 * Makes a dedicated worker an engine for the page that started it. For apps that make the worker themselves:
 * `openSpace({ worker: () => new Worker(new URL('./engine.js', import.meta.url), { type: 'module' }) })`, and `engine.js` says
 * `import { serveEngine } from 'foreshore/worker'; serveEngine();`.
 */
export function serveEngine(): void {
  const scope = globalThis as unknown as Scope;
  let engine: Engine | undefined;
  scope.onmessage = async ({ data }) => {
    const { id } = data;
    const answer = await answerOf(async () => {
      if (data.open) {
        engine = await inPlace(data.open, fetched, event => scope.postMessage({ event }));
        return engine.me as never;
      }
      if (data.close) {
        await engine?.close();
        return null;
      }
      if (!engine) throw new Error('the engine is not open');
      return engine.call(data.request as Request);
    });
    scope.postMessage({ id, ...answer });
    if (data.close) scope.close();
  };
}
