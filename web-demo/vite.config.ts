import { defineConfig } from 'vite';

// `cargo xtask demo` runs the peers; `npm run dev` beside it serves the sources with what the first of them answers.
const peer = process.env.FORESHORE_HTTP ?? 'http://127.0.0.1:4810';
const proxied = { target: peer, changeOrigin: true, headers: { origin: peer } };

export default defineConfig({
  build: {
    target: 'es2022',
    // Those that know light-dark(), so that it is left as it is: what stands in for it follows the system only.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    license: { fileName: 'assets/licences.md' },
  },
  // The engine's worker loads the rest of the engine by itself.
  worker: { format: 'es' },
  optimizeDeps: { exclude: ['foreshore'] },
  server: { proxy: { '/.well-known/foreshore': proxied, '/status': proxied, '/demo/': proxied } },
});
