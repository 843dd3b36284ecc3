// foreshore: a replicated store that keeps working when the network does not.
export { ForeshoreError } from './errors.js';
export { parseInvitation } from './invitation.js';
export { createSpace, openSpace } from './open.js';
export { template } from './template.js';
export { between, counter, fenced, text } from './values.js';
export type * from './types.js';
