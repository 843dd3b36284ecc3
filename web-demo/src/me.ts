// Who this tab is to the others: a name and a colour, for as long as the tab is open.

/** Lives on foreshores. */
const NAMES = [
  'Auk', 'Avocet', 'Cockle', 'Crab', 'Curlew', 'Dunlin', 'Egret', 'Eider', 'Fulmar', 'Gannet', 'Godwit', 'Heron', 'Kelp', 'Knot', 'Limpet', 'Mussel', 'Otter', 'Plover',
  'Puffin', 'Seal', 'Shrimp', 'Skua', 'Tern', 'Turnstone', 'Whelk', 'Whimbrel',
];

/** Told apart on light and on dark, and from the colours of the page itself. */
const COLORS = ['#c2410c', '#7c3aed', '#0369a1', '#be185d', '#4d7c0f', '#a16207', '#0f766e', '#4338ca'];

export interface Me {
  readonly tab: string;
  readonly name: string;
  readonly color: string;
}

function pick<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)] as T;
}

function fresh(): Me {
  return { tab: Math.random().toString(36).slice(2, 10), name: pick(NAMES), color: pick(COLORS) };
}

export const me: Me = (() => {
  try {
    const kept = JSON.parse(sessionStorage.getItem('foreshore-demo-me') ?? 'null') as { name?: string; color?: string } | null;
    const mine = kept?.name && kept.color ? { ...fresh(), name: kept.name, color: kept.color } : fresh();
    sessionStorage.setItem('foreshore-demo-me', JSON.stringify({ name: mine.name, color: mine.color }));
    return mine;
  } catch {
    // No storage for pages here: a new name at each load does no harm.
    return fresh();
  }
})();
