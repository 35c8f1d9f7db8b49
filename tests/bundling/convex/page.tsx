import React, { createElement, Fragment } from "react";
import * as Everything from "react";

const Title = ({ text }: { text: string }) => <h1 title={text}>{text}</h1>;

export function run() {
  const tree = (
    <>
      <Title text="hi" {...{ key: "k" }} />
      {[1, 2].map((n) => (
        <li key={n}>{n}</li>
      ))}
    </>
  );
  return {
    tree,
    same: React.createElement === createElement && Everything.createElement === createElement,
    fragment: String(Fragment),
    version: Everything.version,
  };
}
