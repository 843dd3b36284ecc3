// Icons, drawn here: one stroke, the colour of the text.
import type { JSX } from 'preact';

const PATHS = {
  scissors: 'M6 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6Zm0 12a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8.1 8.1 20 20M8.1 15.9 20 4M14.5 14.5 12 12',
  link: 'M10 13a5 5 0 0 0 7.5.5l3-3a5 5 0 0 0-7-7l-1.7 1.7M14 11a5 5 0 0 0-7.5-.5l-3 3a5 5 0 0 0 7 7l1.7-1.7',
  sun: 'M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4',
  moon: 'M20.5 14.2A8.5 8.5 0 1 1 9.8 3.5a7 7 0 0 0 10.7 10.7Z',
  auto: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 3v18M12 7.5h5M12 12h8.5M12 16.5h5',
  lock: 'M6 11h12a1.5 1.5 0 0 1 1.5 1.5v7A1.5 1.5 0 0 1 18 21H6a1.5 1.5 0 0 1-1.5-1.5v-7A1.5 1.5 0 0 1 6 11ZM8 11V7.5a4 4 0 0 1 8 0V11',
  flag: 'M5 21V4M5 4c5-2.5 8 2.5 14 0v9c-6 2.500-9-2.500-14 0',
  check: 'm5 12.500 4.500 4.500L19 7.500',
  plus: 'M12 5v14M5 12h14',
  trash: 'M4 7h16M9.500 7V4.500h5V7M6.500 7l1 13h9l1-13',
  open: 'M14 4h6v6M20 4l-9 9M18 14v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1h5',
  phone: 'M8 2.500h8A1.500 1.500 0 0 1 17.500 4v16a1.500 1.500 0 0 1-1.500 1.500H8A1.500 1.500 0 0 1 6.500 20V4A1.500 1.500 0 0 1 8 2.500ZM11 18.500h2',
  shell: 'M12 20.500 4 9.500a8.500 8.500 0 0 1 16 0l-8 11ZM12 20.500V4M12 20.500 8 5M12 20.500 16 5',
  star: 'm12 3 2.600 6 6.400.6-4.900 4.200 1.500 6.300L12 16.700 6.400 20.100l1.500-6.300L3 9.600 9.400 9 12 3Z',
  feather: 'M20 4C12 4 6 9 6 16v2l-2 3M6 18c8 1 13-4 14-14M6.500 15.500 14 10',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }): JSX.Element {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
