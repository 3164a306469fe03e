import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  // build/hello.js is the page's script; see tools/lint.js.
  { ignores: ['**/dist/', 'build/*/', '.tap/', '**/node_modules/'] },
  {
    files: ['**/*.js'],
    extends: [js.configs.recommended, tseslint.configs.strict, tseslint.configs.stylistic],
    // It would need a list of globals for the browser and one for Node.js. TypeScript knows both.
    rules: { 'no-undef': 'off' },
  },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // A function that gives a promise is async, even if it has nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      // An empty variable counts as not set.
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      // The alternative, a !, is forbidden.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
    },
  },
);
