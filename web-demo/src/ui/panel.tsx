// The frame that every part of the page has.
import type { ComponentChildren, JSX } from 'preact';

interface Props {
  readonly id: string;
  readonly title: string;
  readonly note?: ComponentChildren;
  readonly tools?: ComponentChildren;
  readonly children: ComponentChildren;
}

export function Panel({ id, title, note, tools, children }: Props): JSX.Element {
  return (
    <section class={`panel ${id}`} aria-labelledby={`${id}-title`}>
      <header>
        <div>
          <h2 id={`${id}-title`}>{title}</h2>
          {note && <p class="note">{note}</p>}
        </div>
        {tools && <div class="tools">{tools}</div>}
      </header>
      {children}
    </section>
  );
}
