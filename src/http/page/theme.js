// The colours that were chosen, before anything is painted.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("jobcast-theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
