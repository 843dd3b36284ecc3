// Templates: what a document is before anyone writes, as layers that are byte-identical on every peer.
import { ForeshoreError, invalid } from './errors.js';
import { encode, type Json, type Node, snapshot, toNode } from './values.js';
import type { Snapshot, StandardSchemaV1, Template, Unstorable } from './types.js';

type Schema = StandardSchemaV1<unknown, unknown>;

class Made<T> implements Template<T> {
  readonly initial: Snapshot<T>;

  constructor(readonly layers: readonly (Node & { kind: 'map' })[], readonly schema: Schema | null) {
    const entries = new Map(layers.flatMap(layer => [...layer.entries]));
    this.initial = snapshot({ kind: 'map', entries }) as Snapshot<T>;
  }

  extend<U>(added: U & { readonly [K in keyof T & keyof U]: never }, ..._problem: Unstorable<U>): Template<T & U> {
    const layer = layerOf(added);
    for (const key of layer.entries.keys()) {
      if (this.layers.some(before => before.entries.has(key))) throw invalid(`the key ${JSON.stringify(key)} is in an earlier layer: a shipped layer is never edited`);
    }
    return new Made<T & U>([...this.layers, layer], this.schema);
  }

  validate(schema: StandardSchemaV1<unknown, Snapshot<T>>): Template<T> {
    return new Made<T>(this.layers, schema);
  }
}

function layerOf(value: unknown): Node & { kind: 'map' } {
  const node = toNode(value);
  if (node.kind !== 'map') throw invalid('a template is an object of root keys');
  return node;
}

export function template<T>(initial: T, ..._problem: Unstorable<T>): Template<T> {
  return new Made<T>([layerOf(initial)], null);
}

function made(value: Template<unknown>): Made<unknown> {
  if (value instanceof Made) return value;
  throw invalid('template() makes templates');
}

export function layers(value: Template<never>): Json[] {
  return made(value as unknown as Template<unknown>).layers.map(encode);
}

/** What a schema says against a value. */
export function issues(value: Template<never>, shown: unknown): readonly string[] {
  const schema = made(value as unknown as Template<unknown>).schema;
  if (!schema) return [];
  const result = schema['~standard'].validate(shown);
  if (result instanceof Promise) throw ForeshoreError.make('INVALID', 'a schema of a template is synchronous');
  return result.issues?.map(issue => issue.message) ?? [];
}
