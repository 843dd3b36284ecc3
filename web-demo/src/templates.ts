// What the demo's documents are before anyone writes. The same bytes on every peer, so peers that begin apart have begun one
// document.
import { template, text } from 'foreshore';

export const COLUMNS = [
  { id: 'ashore', title: 'Ashore' },
  { id: 'tideline', title: 'On the tide line' },
  { id: 'afloat', title: 'Afloat' },
] as const;

export type Column = (typeof COLUMNS)[number]['id'];

export interface Card {
  title: string;
  column: string;
  order: string;
}

const WELCOME = `Type here. Whoever else has this page open sees it as you type.

Then cut a link in the picture beside this, or take this page offline with the switch above, and go on typing on both sides. Heal it, and both sides hold the same text: nobody's words are lost, and no server decided anything.
`;

export const note = template({ body: text(WELCOME) });

export const board = template({
  cards: {
    chart: { title: 'Chart the channel', column: 'ashore', order: 'a' },
    caulk: { title: 'Caulk the hull', column: 'ashore', order: 'b' },
    tide: { title: 'Wait for the tide', column: 'tideline', order: 'a' },
    buoy: { title: 'Set the buoy', column: 'afloat', order: 'a' },
  } as Record<string, Card>,
});
