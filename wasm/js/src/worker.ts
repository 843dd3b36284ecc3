// The engine's worker: requests in, answers and events out.
import { answerOf, inline, type Engine, type EngineOptions, type Request } from './engine.js';

interface Asked { id: number; open?: EngineOptions; request?: Request; close?: true }

// The DOM's types know no worker's scope.
const scope = globalThis as unknown as { onmessage: ((message: MessageEvent<Asked>) => void) | null; postMessage(message: unknown): void; close(): void };

let engine: Engine | undefined;

scope.onmessage = async ({ data }) => {
  const { id } = data;
  const answer = await answerOf(async () => {
    if (data.open) {
      engine = await inline(data.open, event => scope.postMessage({ event }));
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
