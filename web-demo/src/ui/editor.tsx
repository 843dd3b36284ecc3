// The shared note: CodeMirror over the document's text, with everybody's carets.
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { EditorView, drawSelection, keymap, placeholder } from '@codemirror/view';
import { collab } from 'foreshore/codemirror';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { App } from '../peer.js';
import { Panel } from './panel.js';

export function Editor({ app }: { app: App | null }): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!app || !holder.current) return;
    const ref = app.note.text(draft => draft.body);
    const view = new EditorView({
      doc: ref.value,
      parent: holder.current,
      extensions: [
        history(), keymap.of([...defaultKeymap, ...historyKeymap]), drawSelection(), EditorView.lineWrapping, placeholder('Write something'),
        EditorView.contentAttributes.of({ 'aria-label': 'The shared note', spellcheck: 'false' }), collab(ref, app.carets),
      ],
    });
    // Its first frame is a draft: it has not measured itself yet.
    view.dom.style.visibility = 'hidden';
    view.requestMeasure({ read: () => {}, write: () => requestAnimationFrame(() => { view.dom.style.visibility = ''; }) });
    return () => {
      view.destroy();
      ref[Symbol.dispose]();
    };
  }, [app]);
  return (
    <Panel id="note-panel" title="A note" note={<>One document at <code>/demo/note</code>, merged character by character.</>}>
      <div class="editor" ref={holder}>{!app && <p class="waiting">Opening this page’s peer</p>}</div>
    </Panel>
  );
}
