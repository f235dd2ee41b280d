// Stands in for the theme's script of the same name, 1.5 MB of drawings: the icons on these pages
// come from the theme's web font, which its style sheet loads.
