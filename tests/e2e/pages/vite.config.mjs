import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

/** One module for each page, by the name of its entry. */
export default defineConfig({
  plugins: [vue({ template: { compilerOptions: { isCustomElement: (tag) => tag === "org-notifications" } } })],
  build: {
    rollupOptions: {
      input: ["main.react.tsx", "main.vue.ts"],
      preserveEntrySignatures: false,
      output: { entryFileNames: "[name].js", chunkFileNames: "[name].js" },
    },
  },
});
