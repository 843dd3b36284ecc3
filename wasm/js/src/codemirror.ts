// CodeMirror 6 over a text: what is typed goes into the document, what others type comes out of it, and their carets show.
import { Annotation, type ChangeSpec, type Extension, RangeSetBuilder, StateEffect, StateField } from '@codemirror/state';
import { Decoration, type DecorationSet, EditorView, ViewPlugin, type ViewUpdate, WidgetType } from '@codemirror/view';
import type { Cursor, Presence, SoftEntry, TextRef, Unsubscribe } from './types.js';

/** What an editor says of its user; an app may say more. */
export interface Caret { name: string; color?: string; at: Cursor | '' }

const fromDocument = Annotation.define<boolean>();

/** Binds an editor to a text. Begin it with `doc: ref.value`. */
export function collab(ref: TextRef, presence?: Presence<Caret>): Extension {
  const text = ViewPlugin.fromClass(class {
    readonly stop: Unsubscribe;

    constructor(readonly view: EditorView) {
      this.stop = ref.subscribe(event => {
        if (event.origin === this) return;
        view.dispatch({ changes: event.edits as readonly ChangeSpec[], annotations: fromDocument.of(true) });
      });
      // What came between the editor's first text and now.
      if (ref.value !== view.state.doc.toString()) {
        queueMicrotask(() => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: ref.value }, annotations: fromDocument.of(true) }));
      }
    }

    update(update: ViewUpdate): void {
      for (const transaction of update.transactions) {
        if (!transaction.docChanged || transaction.annotation(fromDocument)) continue;
        const edits: { from: number; to: number; insert: string }[] = [];
        transaction.changes.iterChanges((from, to, _from, _to, insert) => edits.push({ from, to, insert: insert.toString() }));
        ref.edit(edits, { origin: this });
      }
    }

    destroy(): void {
      this.stop();
    }
  });
  return presence ? [text, carets(ref, presence)] : text;
}

interface Shown { readonly at: number; readonly name: string; readonly color: string }

const show = StateEffect.define<readonly Shown[]>();

const field = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update: (shown, transaction) => {
    shown = shown.map(transaction.changes);
    for (const effect of transaction.effects) if (effect.is(show)) shown = decorate(effect.value, transaction.state.doc.length);
    return shown;
  },
  provide: field => EditorView.decorations.from(field),
});

function decorate(carets: readonly Shown[], length: number): DecorationSet {
  const builder = new RangeSetBuilder<Decoration>();
  for (const caret of [...carets].sort((a, b) => a.at - b.at)) {
    builder.add(Math.min(caret.at, length), Math.min(caret.at, length), Decoration.widget({ widget: new CaretWidget(caret.name, caret.color), side: 1 }));
  }
  return builder.finish();
}

class CaretWidget extends WidgetType {
  constructor(readonly name: string, readonly color: string) {
    super();
  }

  override eq(other: CaretWidget): boolean {
    return other.name === this.name && other.color === this.color;
  }

  toDOM(): HTMLElement {
    const caret = document.createElement('span');
    caret.className = 'foreshore-caret';
    caret.title = this.name;
    caret.setAttribute('aria-label', `${this.name} is here`);
    caret.style.cssText = `border-left:2px solid ${this.color};margin-left:-1px;margin-right:-1px`;
    return caret;
  }
}

/** Colours that are told apart on light and dark, by name. */
function colorOf(entry: SoftEntry<Caret>): string {
  if (entry.value.color && CSS.supports('color', entry.value.color)) return entry.value.color;
  let hash = 0;
  for (const c of entry.owner.peer) hash = (hash * 31 + c.charCodeAt(0)) >>> 0;
  return `hsl(${hash % 360} 70% 45%)`;
}

/** Shows one's own caret to others, and theirs here. */
function carets(ref: TextRef, presence: Presence<Caret>): Extension {
  const plugin = ViewPlugin.fromClass(class {
    readonly stop: Unsubscribe;
    placing = false;
    again = false;
    gone = false;

    constructor(readonly view: EditorView) {
      this.stop = presence.subscribe(() => void this.look());
      void this.place();
      void this.look();
    }

    update(update: ViewUpdate): void {
      if (update.selectionSet || update.docChanged) void this.place();
    }

    async place(): Promise<void> {
      this.again = this.placing;
      if (this.placing) return;
      this.placing = true;
      try {
        do {
          this.again = false;
          const at = await ref.cursor(Math.min(this.view.state.selection.main.head, ref.value.length)).catch(() => '' as const);
          if (!this.gone) presence.set({ at });
        } while (this.again && !this.gone);
      } finally {
        this.placing = false;
      }
    }

    async look(): Promise<void> {
      const others = presence.others.filter(entry => entry.value.at !== '');
      const places = await ref.locate(others.map(entry => entry.value.at)).catch(() => []);
      if (this.gone) return;
      const shown = others.flatMap((entry, i) => {
        const at = places[i];
        return at === null || at === undefined ? [] : [{ at, name: entry.value.name, color: colorOf(entry) }];
      });
      this.view.dispatch({ effects: show.of(shown) });
    }

    destroy(): void {
      this.gone = true;
      this.stop();
    }
  });
  return [field, plugin];
}
