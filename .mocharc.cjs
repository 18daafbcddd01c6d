module.exports = {
  spec: ['dist/test/**/*.test.js'],
  forbidOnly: Boolean(process.env.CI),
  timeout: 30_000,
  'node-option': ['enable-source-maps'],
};
