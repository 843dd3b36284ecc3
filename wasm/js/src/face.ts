// What is the same wherever the package runs.
export { ForeshoreError } from './errors.js';
export { parseInvitation } from './invitation.js';
export { template } from './template.js';
export { between, counter, fenced, text } from './values.js';
export type * from './types.js';
