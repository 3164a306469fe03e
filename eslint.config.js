import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['**/dist/', '**/build/', '.tap/', '**/node_modules/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // What gives a promise says so by that word, also where it has nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      // An empty variable counts as not set.
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      // The other way to say it, with a !, is forbidden.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
    },
  },
);
