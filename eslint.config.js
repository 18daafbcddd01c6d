import tseslint from 'typescript-eslint';

/** Folders may import downwards only: test and bench → proxy → src. */
const boundary = (files, patterns, message) => ({
  files,
  rules: {
    'no-restricted-imports': ['error', { patterns: patterns.map((regex) => ({ regex, message })) }],
  },
});

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommended],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      eqeqeq: 'error',
      'no-control-regex': 'off', // the protocol is made of control characters
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  boundary(
    ['src/**/*.ts'],
    ['/proxy/', '^(\\.\\./)+proxy'],
    'the engine knows nothing of the proxy',
  ),
  boundary(
    ['proxy/**/*.ts'],
    ['^(\\.\\./)+src/(?!index\\.ts$)'],
    'the engine has one door: src/index.ts',
  ),
  {
    // One owner for each library: what it does is asked for there.
    files: ['src/**/*.ts', 'proxy/**/*.ts'],
    ignores: ['src/sql-text.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { paths: [{ name: 'libpg-query', message: 'ask src/sql-text.ts' }] },
      ],
    },
  },
);
