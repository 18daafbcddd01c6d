module.exports = {
  spec: ['dist/test/**/*.test.js'],
  require: ['dist/test/support/root-hooks.js'],
  forbidOnly: Boolean(process.env.CI),
  timeout: 30_000,
  'node-option': ['enable-source-maps'],
};
