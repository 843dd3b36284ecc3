// The engine's worker, as the package starts it itself.
import { serveEngine } from './serve.js';

serveEngine();
